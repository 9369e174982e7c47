package authority

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// The roles that hold an account. A requester in whose name an operator acts has
// one of them (T3 to T5).
const (
	roleOwner = "owner"
	roleAdmin = "admin"
)

// basis is where it stands which users may carry out a verb.
type basis uint8

const (
	// operatorsOnly: no user may. The zero value, so that what is forgotten is shut.
	operatorsOnly basis = iota
	byAllow             // the knob allow of the account's policy
	byView              // the knob view; everyone sees what is their own
	byRole              // the roles that the row names
	everyUser           // every user of the account
)

// permission is one row of the table: who besides operators may carry out a verb.
type permission struct {
	verb  Verb
	basis basis
	roles []string // with byRole; own:* is everyone for what is their own
	// scope is the management scope with which a token may; zero: none may.
	scope token.Scope
	// self lets every token do it to itself.
	self bool
	// shared: the verb is about no account in particular.
	shared bool
	// operators: it stays an operator's own act even in a requester's name.
	operators bool
}

const ownAnyone = "own:*"

var (
	readsTokens  = token.ManageTokensRead
	writesTokens = token.ManageTokensWrite
	readsUsers   = token.ManageUsersRead
	readsAudit   = token.ManageAuditRead
)

// permissions is the whole of who may do what, in the order of the documentation.
// A verb that is not on it is an operator's alone.
var permissions = []permission{
	{verb: VerbCreateToken, basis: byAllow, scope: writesTokens},
	{verb: VerbEditToken, basis: byAllow, scope: writesTokens},
	{verb: VerbRotateToken, basis: byAllow, scope: writesTokens, self: true},
	{verb: VerbRollBack, basis: byAllow, scope: writesTokens},
	{verb: VerbConfirmRotation, basis: byAllow, scope: writesTokens},
	{verb: VerbExtendRotation, basis: byAllow, scope: writesTokens},
	{verb: VerbEnableToken, basis: byAllow, scope: writesTokens},
	{verb: VerbDisableToken, basis: byAllow, scope: writesTokens},
	{verb: VerbRevokeToken, basis: byAllow, scope: writesTokens, self: true},
	{verb: VerbDeleteToken, basis: byAllow, scope: writesTokens},
	{verb: VerbRestoreToken, basis: byAllow, scope: writesTokens},
	{verb: VerbUndoDowngrade, basis: byAllow, scope: writesTokens},
	// An exemption is a person's word that a token is to stay (L7).
	{verb: VerbExemptToken, basis: byAllow},

	{verb: VerbShowToken, basis: byView, scope: readsTokens, self: true},
	{verb: VerbListTokens, basis: byView, scope: readsTokens},
	{verb: VerbTokenUsage, basis: byView, scope: readsTokens, self: true},
	{verb: VerbRecommendToken, basis: byView, scope: readsTokens, self: true},
	{verb: VerbShowRotation, basis: byView, scope: readsTokens, self: true},
	{verb: VerbPlanLifecycle, basis: byView, scope: readsTokens},
	{verb: VerbVerifyToken},
	{verb: VerbLeakToken},

	{verb: VerbShowAccount, basis: everyUser, scope: readsUsers},
	{verb: VerbEditAccount, basis: byRole, roles: []string{roleOwner, roleAdmin}},
	{verb: VerbSwitchAccount},
	{verb: VerbCreateAccount},
	{verb: VerbListAccounts},

	{verb: VerbShowUser, basis: byRole, roles: []string{roleOwner, roleAdmin, "auditor", ownAnyone}, scope: readsUsers},
	{verb: VerbListUsers, basis: byRole, roles: []string{roleOwner, roleAdmin, "auditor"}, scope: readsUsers},
	{verb: VerbCreateUser, basis: byRole, roles: []string{roleOwner, roleAdmin}},
	{verb: VerbEditUser, basis: byRole, roles: []string{roleOwner, roleAdmin}},
	{verb: VerbAssignRole, basis: byRole, roles: []string{roleOwner, roleAdmin}},
	{verb: VerbSwitchUser, basis: byRole, roles: []string{roleOwner, roleAdmin}},
	{verb: VerbShowOTP, basis: byRole, roles: []string{roleOwner, roleAdmin, ownAnyone}},
	{verb: VerbEnrolOTP, basis: byRole, roles: []string{ownAnyone}},
	{verb: VerbConfirmOTP, basis: byRole, roles: []string{ownAnyone}},
	{verb: VerbResetOTP},

	{verb: VerbListRoles, basis: everyUser, scope: readsTokens, shared: true},
	{verb: VerbShowRole, basis: everyUser, scope: readsTokens, shared: true},
	{verb: VerbCreateRole},
	{verb: VerbEditRole},
	{verb: VerbDeleteRole},
	{verb: VerbListScopes, basis: everyUser, scope: readsTokens, shared: true},
	{verb: VerbListPolicies},
	{verb: VerbShowPolicy},
	{verb: VerbCreatePolicy},
	{verb: VerbEditPolicy},
	{verb: VerbDeletePolicy},
	{verb: VerbAssignPolicy, operators: true},

	{verb: VerbListAudit, basis: byRole, roles: []string{roleOwner, roleAdmin, "auditor"}, scope: readsAudit},
	{verb: VerbVerifyAudit},
	{verb: VerbListNotices, basis: byRole, roles: []string{roleOwner, roleAdmin, "auditor"}, scope: readsAudit},

	{verb: VerbListWebhooks},
	{verb: VerbShowWebhook},
	{verb: VerbCreateWebhook},
	{verb: VerbEditWebhook},
	{verb: VerbRotateWebhook},
	{verb: VerbConfirmWebhook},
	{verb: VerbRollBackWebhook},
	{verb: VerbTestWebhook},
	{verb: VerbDeleteWebhook},

	{verb: VerbApplyLifecycle},
	{verb: VerbCoverage},
	{verb: VerbListNodes},
	{verb: VerbRetireNode},
	{verb: VerbShowMasterKeys},
	{verb: VerbAddMasterKey},
	{verb: VerbRotateMasterKey},
	{verb: VerbRemoveMasterKey},
	{verb: VerbDeclare},
}

// permissionOf finds the row of a verb.
func permissionOf(v Verb) permission {
	if i := slices.IndexFunc(permissions, func(p permission) bool { return p.verb == v }); i >= 0 {
		return permissions[i]
	}
	return permission{verb: v}
}

// users lists the roles that may carry out the verb in an account under a policy,
// as a policy writes them.
func (p *permission) users(policy *token.Policy) []string {
	switch p.basis {
	case byAllow:
		return policy.AllowedTo(p.verb.name())
	case byView:
		return append(slices.Clone(policy.View), ownAnyone)
	case byRole:
		return p.roles
	default:
		return nil
	}
}

// An asker is who asks, with all that the answer depends on, as the store has it
// in the transaction that the answer is for.
type asker struct {
	kind tokenstore.ActorKind
	// behalf: an operator acts in the user's name.
	behalf bool
	// unfit says why it may do nothing at all; empty: it may act.
	unfit   string
	token   *token.Token // a token's own record
	user    *token.User  // nil for operators in their own name, and tokens of an account
	role    *token.Role  // the user's
	account *token.Account
	policy  *token.Policy // the account's
}

// free says whether nothing but the rules of the act binds: an operator in the
// operator's own name, who could change the store by hand, so that to refuse one
// here would protect nothing; and Sallyport itself.
func (k *asker) free() bool {
	return k.kind == tokenstore.SystemActor || k.kind == tokenstore.OperatorActor && !k.behalf
}

// may says whether the asker may carry out a verb on a target; nil: yes. It is
// pure. Records of other accounts are answered like records that there are not,
// so that nobody finds out which IDs exist (D3).
func (k *asker) may(v Verb, t target) error {
	if k.free() {
		return nil
	}
	switch k.kind {
	case tokenstore.OperatorActor, tokenstore.UserActor, tokenstore.TokenActor:
	default:
		return refuse(ErrForbidden, fmt.Sprintf("this kind of actor may not do %s", v))
	}
	if k.unfit != "" {
		return refuse(ErrForbidden, k.unfit)
	}
	p := permissionOf(v)
	if p.operators && k.behalf {
		return nil
	}
	if k.token != nil && p.self && t.id != "" && t.id == string(k.token.ID) {
		return nil
	}
	if k.token != nil && (p.scope.Name == "" || !k.token.Grant.Manages(p.scope)) {
		return refuse(ErrForbidden, k.lacksScope(&p))
	}
	if !p.shared && t.account != k.account.ID {
		if t.id != "" && p.basis != operatorsOnly && v.name() != "list" {
			return refuse(ErrNotFound, "there is no such "+v.about())
		}
		return refuse(ErrForbidden, cmp.Or(k.operatorsOnly(&p), "account_id must name your own account"))
	}
	if k.token != nil && t.environment != 0 && t.environment != k.token.Environment && p.scope == writesTokens {
		return refuse(ErrForbidden, "a token changes tokens of its own environment only")
	}
	if k.user == nil {
		return nil // a token of the account itself, which the scope speaks for
	}
	if p.basis == everyUser || k.among(p.users(k.policy), t.user) {
		return nil
	}
	return refuse(ErrForbidden, k.notAmong(&p))
}

// among says whether the user's role is one of those listed, for a target that
// belongs to a user, or to none.
func (k *asker) among(grantees []string, owner token.ID) bool {
	own := owner != "" && owner == k.user.ID
	for _, grantee := range grantees {
		role, ownOnly := strings.CutPrefix(grantee, "own:")
		if (role == k.user.Role || grantee == ownAnyone) && (own || !ownOnly) {
			return true
		}
	}
	return false
}

func (k *asker) operatorsOnly(p *permission) string {
	if p.basis == operatorsOnly {
		return fmt.Sprintf("only an operator may do %s", p.verb)
	}
	return ""
}

func (k *asker) lacksScope(p *permission) string {
	if p.scope.Name == "" {
		return fmt.Sprintf("no token may do %s: ask a person", p.verb)
	}
	return fmt.Sprintf("%s takes a token that lists the scope %s", p.verb, p.scope.Name)
}

func (k *asker) notAmong(p *permission) string {
	if text := k.operatorsOnly(p); text != "" {
		return text
	}
	who := make([]string, 0, 4)
	for _, grantee := range p.users(k.policy) {
		switch role, own := strings.CutPrefix(grantee, "own:"); {
		case grantee == ownAnyone:
			who = append(who, "everyone for what is their own")
		case own:
			who = append(who, "the role "+role+" for what is their own")
		default:
			who = append(who, "the role "+role)
		}
	}
	if len(who) == 0 {
		return fmt.Sprintf("the account's policy lets no user do %s: ask the operator", p.verb)
	}
	return fmt.Sprintf("%s is for %s", p.verb, strings.Join(who, ", "))
}

// about is what kind of record the verb is about, in words.
func (v Verb) about() string {
	kind, _, _ := strings.Cut(string(v), ".")
	return kind
}

// mustStepUp says whether a verb takes a one-time code from the asker (R10, R17).
func (k *asker) mustStepUp(v Verb) bool {
	if k.free() || k.policy == nil {
		return false
	}
	p := permissionOf(v)
	return p.basis == byAllow && slices.Contains(k.policy.StepUp, v.name())
}

// holds says whether the asker's own power covers a grant. A token holds what it
// lists, as far as its user's role lets it.
func (k *asker) holds(g *token.Grant, known scopeFinder) bool {
	if k.token != nil && !k.token.Grant.Covers(g, known) {
		return false
	}
	return k.role == nil || k.role.Ceiling.Covers(g, known)
}

// mayGive says whether the asker may have given a token what it holds: nobody
// gives more than they hold, and no token gives management scopes (D1). owner is
// the role of the token's user, nil when it has none. fresh: the permissions
// themselves were just given, and not only the use of those that were there.
func (k *asker) mayGive(t *token.Token, owner *token.Role, fresh bool, known scopeFinder) error {
	if k.free() || k.token != nil && k.token.ID == t.ID {
		return nil
	}
	own := k.token == nil && k.user != nil && t.UserID == k.user.ID
	if names := t.Grant.Management(); len(names) > 0 && !own {
		who := "a token can not give management scopes to a token"
		if k.token == nil {
			who = "a token with management scopes acts for the user to whom it belongs: people can make and have only their own, and an operator all others"
		}
		return refuse(ErrExceedsGrantor, who)
	}
	if k.holds(&t.Grant, known) {
		return nil
	}
	// What the gate lets through is bound by the role of the token's user too.
	if !fresh && (own || owner != nil && k.holds(&owner.Ceiling, known)) {
		return nil
	}
	return refuse(ErrExceedsGrantor, "the token may do more than you may: nobody can give more than they hold; choose a narrower access level or fewer scopes, or ask somebody with a wider role")
}

// mayAssign says whether the asker may give a user a role, in place of another
// one; an empty name for none. Nobody changes their own, an admin makes no owner
// and changes none, and nobody gives a role that lets more happen than their own.
func (k *asker) mayAssign(of token.ID, was string, is *token.Role, known scopeFinder) error {
	switch {
	case k.free():
		return nil
	case k.user == nil:
		return refuse(ErrForbidden, "no token may do "+string(VerbAssignRole))
	case of == k.user.ID:
		return refuse(ErrForbidden, "nobody changes their own role or business units: ask another owner or admin, or the operator")
	case k.user.Role != roleOwner && (was == roleOwner || is.Name == roleOwner):
		return refuse(ErrExceedsGrantor, "only an owner, or the operator, makes or changes an owner")
	case !k.role.Ceiling.Covers(&is.Ceiling, known):
		return refuse(ErrExceedsGrantor, "the role lets tokens do more than your own role does")
	case k.user.Role != roleOwner && k.exceeds(is.Name):
		return refuse(ErrExceedsGrantor, "the account's policy lets users of that role do more than those of yours")
	default:
		return nil
	}
}

// exceeds says whether the account's policy lets a role do anything that it does
// not let the asker's do.
func (k *asker) exceeds(role string) bool {
	level := func(role string, grantees []string) int {
		switch {
		case slices.Contains(grantees, role):
			return 2
		case slices.Contains(grantees, "own:"+role):
			return 1
		default:
			return 0
		}
	}
	for _, verb := range token.PolicyVerbs() {
		grantees := k.policy.AllowedTo(verb)
		if level(role, grantees) > level(k.user.Role, grantees) {
			return true
		}
	}
	return level(role, k.policy.View) > level(k.user.Role, k.policy.View)
}
