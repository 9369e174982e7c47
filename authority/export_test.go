package authority

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// PermissionRows is the table of the documentation, under a policy.
func PermissionRows(p *token.Policy) string {
	var b strings.Builder
	b.WriteString("| verb | users | token with the scope | any token, for itself |\n|---|---|---|---|\n")
	for i := range permissions {
		row := &permissions[i]
		users := "operators only"
		switch row.basis {
		case operatorsOnly:
		case everyUser:
			users = "everyone"
		case byAllow, byView, byRole:
			var who []string
			for _, grantee := range row.users(p) {
				role, own := strings.CutPrefix(grantee, "own:")
				switch {
				case grantee == ownAnyone:
					role = "everyone on their own"
				case own:
					role += " on their own"
				}
				who = append(who, role)
			}
			users = strings.Join(who, ", ")
			users += map[basis]string{byAllow: " (`allow`)", byView: " (`view`)"}[row.basis]
		}
		scope, self := "", ""
		if row.scope.Name != "" {
			scope = "`" + row.scope.Name + "`"
		}
		if row.self {
			self = "yes"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", row.verb, users, scope, self)
	}
	return b.String()
}

// TableVerbs are the verbs of the table.
func TableVerbs() (verbs []Verb) {
	for _, p := range permissions {
		verbs = append(verbs, p.verb)
	}
	return verbs
}

// TestAsker is an asker of a test's making.
type TestAsker struct {
	Kind    tokenstore.ActorKind
	Behalf  bool
	Token   *token.Token
	User    *token.User
	Role    *token.Role
	Account *token.Account
	Policy  *token.Policy
}

func (k *TestAsker) asker() *asker {
	return &asker{kind: k.Kind, behalf: k.Behalf, token: k.Token, user: k.User, role: k.Role, account: k.Account, policy: k.Policy}
}

// May asks the table. A target with an ID is a record, and one without a list.
func (k *TestAsker) May(v Verb, id string, account, user token.ID) error {
	return k.asker().may(v, target{id: id, account: account, user: user})
}

// MustStepUp says whether the verb takes a code.
func (k *TestAsker) MustStepUp(v Verb) bool { return k.asker().mustStepUp(v) }

// LeakHost and LeakSource say what is kept of where a secret was found.
var (
	LeakHost   = leakHost
	LeakSource = leakSource
)
