package authority_test

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs: go test ./authority -run Permission -update\n%s", path, diff)
	}
}

// T6: what roles may do is documented, and the page is what the code says.
func TestThePermissionTableOfTheDocsIsTheCodes(t *testing.T) {
	const path, begin, end = "../docs/security.md", "<!-- permissions: written by go test ./authority -run Permission -update -->\n", "<!-- /permissions -->\n"
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(page), begin)
	require.True(t, ok, "docs/security.md has lost the mark where the table begins")
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "docs/security.md has lost the mark where the table ends")
	p := token.DefaultPolicy()
	golden(t, path, before+begin+"\n"+authority.PermissionRows(&p)+"\n"+end+after)
}

// actors are everyone who can ask, in an account with the ID acc_own, as usr_me.
func actors(p *token.Policy) (names []string, all map[string]*authority.TestAsker) {
	all = map[string]*authority.TestAsker{}
	add := func(name string, k authority.TestAsker) {
		k.Account, k.Policy = &token.Account{ID: "acc_own", Policy: p.Name}, p
		names = append(names, name)
		all[name] = &k
	}
	role := func(name string) (*token.User, *token.Role) {
		return &token.User{ID: "usr_me", AccountID: "acc_own", Role: name}, &token.Role{Name: name, Ceiling: token.Grant{Access: token.ReadWrite}}
	}
	var scopes []string
	for _, s := range token.ManagementScopes() {
		scopes = append(scopes, s.Name)
	}
	manager, err := token.NewGrant(token.Custom, scopes, nil)
	if err != nil {
		panic(err)
	}
	add("operator", authority.TestAsker{Kind: tokenstore.OperatorActor})
	add("system", authority.TestAsker{Kind: tokenstore.SystemActor})
	for _, name := range []string{"owner", "admin", "member", "auditor", "custom"} {
		user, r := role(name)
		add("user "+name, authority.TestAsker{Kind: tokenstore.UserActor, User: user, Role: r})
		if name == "owner" || name == "admin" {
			add("for "+name, authority.TestAsker{Kind: tokenstore.OperatorActor, Behalf: true, User: user, Role: r})
		}
		if name == "owner" || name == "member" {
			add("manager of "+name, authority.TestAsker{
				Kind: tokenstore.TokenActor, User: user, Role: r, Token: &token.Token{ID: "tok_manager", AccountID: "acc_own", UserID: "usr_me", Grant: manager},
			})
		}
	}
	add("manager of account", authority.TestAsker{Kind: tokenstore.TokenActor, Token: &token.Token{ID: "tok_manager", AccountID: "acc_own", Grant: manager}})
	add("plain token", authority.TestAsker{Kind: tokenstore.TokenActor, Token: &token.Token{ID: "tok_plain", AccountID: "acc_own", Grant: token.Grant{Access: token.ReadWrite}}})
	add("stranger", authority.TestAsker{Kind: "stranger"})
	return names, all
}

// Every verb, for every kind of actor and role, on what is their own, on another's
// in their account, on the account's itself, and in another account. The file is
// what the reviewer of a change reads.
func TestThePermissionOfEveryVerbForEveryActor(t *testing.T) {
	var b strings.Builder
	p := token.DefaultPolicy()
	p.Allow = map[string][]string{"rotate": {"owner"}}
	p.StepUp = []string{"rotate"}
	names, all := actors(&p)
	targets := []struct {
		name, id      string
		account, user token.ID
	}{
		{"own", "x_1", "acc_own", "usr_me"},
		{"other's", "x_1", "acc_own", "usr_other"},
		{"account's", "x_1", "acc_own", ""},
		{"list", "", "acc_own", ""},
		{"own list", "", "acc_own", "usr_me"},
		{"elsewhere", "x_1", "acc_other", "usr_there"},
		{"list elsewhere", "", "acc_other", ""},
		{"nowhere", "", "", ""},
		{"itself", "tok_plain", "acc_own", ""},
	}
	for _, v := range authority.TableVerbs() {
		fmt.Fprintf(&b, "%s\n", v)
		for _, name := range names {
			k := all[name]
			var allowed []string
			for _, at := range targets {
				switch err := k.May(v, at.id, at.account, at.user); {
				case err == nil:
					allowed = append(allowed, at.name)
				case at.account == "acc_other" && at.id != "" && errors.Is(err, authority.ErrNotFound):
				default:
					require.ErrorIs(t, err, authority.ErrForbidden, "%s by %s on %s", v, name, at.name)
				}
			}
			if k.MustStepUp(v) {
				allowed = append(allowed, "with a code")
			}
			if len(allowed) == 0 {
				allowed = []string{"-"}
			}
			fmt.Fprintf(&b, "  %-20s %s\n", name, strings.Join(allowed, ", "))
		}
	}
	golden(t, "testdata/permissions.txt", b.String())
}

// What holds whatever the table says.
func TestThePermissionTableKeepsItsPromises(t *testing.T) {
	p := token.DefaultPolicy()
	names, all := actors(&p)
	for _, v := range append(authority.TableVerbs(), "new.verb") {
		for _, name := range names {
			k := all[name]
			if name == "operator" || name == "system" {
				require.NoError(t, k.May(v, "x_1", "acc_other", ""))
				require.False(t, k.MustStepUp(v), "an operator in their own name gives no code")
				continue
			}
			if v == authority.VerbAssignPolicy && k.Behalf {
				require.NoError(t, k.May(v, "acc_own", "acc_own", ""), "it stays the operator's own")
				continue
			}
			// D3: nothing of another account can be told from nothing at all.
			elsewhere, missing := k.May(v, "x_1", "acc_other", "usr_me"), k.May(v, "x_1", "", "")
			if elsewhere != nil || missing != nil {
				require.Equal(t, fmt.Sprint(missing), fmt.Sprint(elsewhere), "%s by %s", v, name)
			}
			if name == "plain token" {
				continue
			}
			if name == "stranger" {
				require.ErrorIs(t, k.May(v, "x_1", "acc_own", ""), authority.ErrForbidden)
			}
		}
		if v == "new.verb" {
			for _, name := range names[2:] {
				require.Error(t, all[name].May(v, "x_1", "acc_own", "usr_me"), "a verb that nobody thought of is shut")
			}
		}
	}
}

// A verb that is missing from the table is an operator's alone, so that to forget
// one is safe; whoever adds one decides all the same.
func TestEveryVerbHasAPermissionRow(t *testing.T) {
	known := map[authority.Verb]bool{}
	for _, v := range authority.TableVerbs() {
		require.False(t, known[v], "%s stands twice", v)
		known[v] = true
	}
	// Verbs of the audit log, and of the gateway itself, which nobody asks for.
	inner := map[authority.Verb]bool{
		authority.VerbDeclareRole: true, authority.VerbReleaseRole: true, authority.VerbDeclarePolicy: true, authority.VerbReleasePolicy: true,
		authority.VerbDeclareScope: true, authority.VerbReleaseScope: true, authority.VerbRemoveScope: true,
		authority.VerbScheduleToken: true, authority.VerbUnschedule: true, authority.VerbDowngradeToken: true, authority.VerbDeleteUnused: true,
		authority.VerbDeleteExpired: true, authority.VerbRetireSecret: true, authority.VerbPurgeToken: true, authority.VerbPutBackToken: true,
		authority.VerbReassertToken: true, authority.VerbReassertStore: true,
		"token.retired_use": true, "token.start_grace": true, "token.revoke_secret": true, "webhook.declare": true, "webhook.release": true, "webhook.disable": true,
		authority.VerbFailOTP: true, authority.VerbRecoverOTP: true, authority.VerbRekeyOTP: true,
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || fmt.Sprint(spec.Type) != "Verb" {
				return true
			}
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			v := authority.Verb(text)
			if !known[v] && !inner[v] && !strings.Contains(spec.Names[0].Name, "Rekey") {
				t.Errorf("%s (%s in %s) has no row and is an operator's alone: add one to permissions", v, spec.Names[0].Name, file)
			}
			return true
		})
	}
}
