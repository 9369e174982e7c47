package authority

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Verb names what is asked: what it is about, a dot, and what to do with it.
// Audit entries carry it.
type Verb string

// The verbs.
const (
	VerbCreateToken  Verb = "token.create"
	VerbEditToken    Verb = "token.edit"
	VerbRotateToken  Verb = "token.rotate"
	VerbEnableToken  Verb = "token.enable"
	VerbDisableToken Verb = "token.disable"
	VerbRevokeToken  Verb = "token.revoke"
	VerbDeleteToken  Verb = "token.delete"
	VerbShowToken    Verb = "token.show"
	VerbListTokens   Verb = "token.list"
	VerbVerifyToken  Verb = "token.verify"

	VerbCreateAccount Verb = "account.create"
	VerbEditAccount   Verb = "account.edit"
	VerbShowAccount   Verb = "account.show"
	VerbListAccounts  Verb = "account.list"
	// VerbSwitchAccount is the part of an edit that disables or enables an account,
	// or switches its token option.
	VerbSwitchAccount Verb = "account.switch"
	// VerbAssignPolicy is the part of an edit that puts an account under a policy.
	VerbAssignPolicy Verb = "policy.assign"

	VerbCreateUser Verb = "user.create"
	VerbEditUser   Verb = "user.edit"
	VerbShowUser   Verb = "user.show"
	VerbListUsers  Verb = "user.list"
	// VerbSwitchUser is the part of an edit that disables or enables a user, or
	// switches the user's token option.
	VerbSwitchUser Verb = "user.switch"
	// VerbAssignRole is the part of an edit that changes role or business units.
	VerbAssignRole Verb = "user.assign"

	VerbShowOTP    Verb = "user.show-otp"
	VerbEnrolOTP   Verb = "user.enrol-otp"
	VerbConfirmOTP Verb = "user.confirm-otp"
	VerbResetOTP   Verb = "user.reset-otp"
	// VerbFailOTP and VerbRecoverOTP are in the audit log only: a wrong code, and
	// the use of a recovery code.
	VerbFailOTP    Verb = "user.fail-otp"
	VerbRecoverOTP Verb = "user.recover-otp"
	// VerbRekeyOTP is in the audit log only: a secret moved to another master key.
	VerbRekeyOTP Verb = "user.rekey-otp"

	VerbListRoles    Verb = "role.list"
	VerbShowRole     Verb = "role.show"
	VerbCreateRole   Verb = "role.create"
	VerbEditRole     Verb = "role.edit"
	VerbDeleteRole   Verb = "role.delete"
	VerbListPolicies Verb = "policy.list"
	VerbListScopes   Verb = "scope.list"

	// VerbDeclare is what is asked of a configuration; its audit entries carry
	// what became of each record.
	VerbDeclare       Verb = "config.declare"
	VerbDeclareRole   Verb = "role.declare"
	VerbReleaseRole   Verb = "role.release"
	VerbDeclarePolicy Verb = "policy.declare"
	VerbReleasePolicy Verb = "policy.release"
	VerbDeclareScope  Verb = "scope.declare"
	VerbReleaseScope  Verb = "scope.release"
	VerbRemoveScope   Verb = "scope.remove"

	VerbListAudit   Verb = "audit.list"
	VerbVerifyAudit Verb = "audit.verify"

	VerbShowMasterKeys  Verb = "master_key.status"
	VerbAddMasterKey    Verb = "master_key.add"
	VerbRotateMasterKey Verb = "master_key.rotate"
	VerbRemoveMasterKey Verb = "master_key.remove"
)

// name is the verb as policies name it: "rotate".
func (v Verb) name() string {
	_, name, _ := strings.Cut(string(v), ".")
	return name
}

// By is who asks, and under which request.
type By struct {
	Actor     tokenstore.Actor
	RequestID string
	// RequestedBy is the user in whose name an operator acts; empty: the operator's own.
	RequestedBy token.ID
	// Code is the one-time code, or the recovery code, of the user who asks; empty:
	// none was given.
	Code OneTimeCode
	// Retry makes create and rotate safe to repeat; the zero value does not.
	Retry Retry
}

// target is what a verb is about: a record, or with no ID a list or something to
// come within an account.
type target struct {
	id      string
	account token.ID
	// user is whose the record is: the user of a token, or the user.
	user token.ID
	// environment is that of a token; zero: the target is no token.
	environment token.Environment
}

// step is one verb in one transaction, after it was permitted.
type step struct {
	a      *Authority
	tx     *tokenstore.Tx
	by     By
	verb   Verb
	target target
	asker  asker
	now    time.Time
	// proven: the code that came along was right a moment ago, and wrong ones were
	// counted by whoever found that out.
	proven bool
}

// A finder reads what the verb is about. It names the target even when it fails,
// so that whoever may not act learns that, and not what exists.
type finder func(*step) (target, error)

// change carries out a verb that may change something. do runs once the verb is
// permitted, changes what it has to, and appends the audit entry; both may run
// more than once and change nothing but variables that they set anew each time.
func (a *Authority) change(ctx context.Context, by By, v Verb, find finder, do func(*step) error) error {
	return a.carryOut(ctx, by, v, a.write, find, do)
}

// see carries out a verb that changes nothing.
func (a *Authority) see(ctx context.Context, by By, v Verb, find finder, do func(*step) error) error {
	return a.carryOut(ctx, by, v, a.Store.Read, find, do)
}

type transaction func(context.Context, func(*tokenstore.Tx) error) error

func (a *Authority) carryOut(ctx context.Context, by By, v Verb, run transaction, find finder, do func(*step) error) error {
	by, err := by.clean()
	if err != nil {
		return err
	}
	proven := false
	for {
		err = run(ctx, func(tx *tokenstore.Tx) error {
			// The clock is read in the transaction: writers stand in line, and what
			// comes later in the log must not be dated before its turn.
			s := &step{a: a, tx: tx, by: by, verb: v, now: a.now(), proven: proven}
			t, missing := find(s)
			if err := s.permit(t, missing); err != nil {
				return err
			}
			was, err := s.grantOf()
			if err != nil {
				return err
			}
			if err := do(s); err != nil {
				return err
			}
			return s.checkGiven(was)
		})
		if !errors.Is(err, errUnproven) {
			break
		}
		// Rolled back. The code is judged in a transaction of its own, which counts
		// a wrong one whatever becomes of the verb.
		if err = a.prove(ctx, by, v); err != nil {
			break
		}
		proven = true
	}
	var refusal *Error
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%s: %w", v, err)
}

// permit is the choke point: the one place that says who may do what. Every
// verb comes through it, those that only read included, inside the transaction
// that it is about, and everything that it judges by is read there.
//
// What is asked for in somebody's name is judged before anything else is told,
// even that the target is not there (T8).
func (s *step) permit(t target, missing error) error {
	var err error
	if s.asker, err = s.identify(); err != nil {
		return err
	}
	if err := s.asker.may(s.verb, t); err != nil {
		return err
	}
	if missing != nil {
		return missing
	}
	s.target = t
	if err := s.checkTokenOption(); err != nil {
		return err
	}
	return s.stepUp()
}

// also asks for a verb that is part of the one that is carried out.
func (s *step) also(v Verb) error { return s.asker.may(v, s.target) }

// identify reads who asks, as the store has them now: a revoked token, a user who
// was disabled or lost the role since it was last looked up, may do nothing (D2).
func (s *step) identify() (asker, error) {
	k := asker{kind: s.by.Actor.Kind}
	switch {
	case s.by.RequestedBy != "" && k.kind != tokenstore.OperatorActor:
		k.unfit = "only an operator acts in somebody else's name"
		return k, nil
	case s.by.RequestedBy != "":
		k.behalf = true
		err := s.identifyUser(&k, s.by.RequestedBy, "the requester")
		return k, err
	case k.kind == tokenstore.UserActor:
		err := s.identifyUser(&k, token.ID(s.by.Actor.Name), "the user who asks")
		return k, err
	case k.kind == tokenstore.TokenActor:
		err := s.identifyToken(&k, token.ID(s.by.Actor.Name))
		return k, err
	default:
		return k, nil
	}
}

// identifyUser reads a user who acts, or in whose name an operator does. One who
// may not act leaves the reason in k and no error.
func (s *step) identifyUser(k *asker, id token.ID, who string) error {
	if !checkID(id) {
		k.unfit = who + " is not known: give the ID of a user"
		return nil
	}
	user, err := s.tx.User(id)
	if errors.Is(err, tokenstore.ErrNotFound) {
		k.unfit = who + " is not known: give the ID of a user"
		return nil
	}
	if err != nil {
		return err
	}
	k.user = &user
	if err := s.identifyAccount(k, user.AccountID); err != nil {
		return err
	}
	role, err := s.tx.Role(user.Role)
	if err != nil {
		return fmt.Errorf("read the role of user %s: %w", id, err)
	}
	k.role = &role
	switch {
	case user.Disabled:
		k.unfit = who + " is disabled"
	case k.account.Disabled:
		k.unfit = "the account of " + who + " is disabled"
	case k.behalf && user.Role != roleOwner && user.Role != roleAdmin:
		// T3 to T5.
		k.unfit = "an operator acts for the owners and admins of an account only: have one of them ask"
	}
	return nil
}

func (s *step) identifyAccount(k *asker, id token.ID) error {
	account, policy, err := s.accountAndPolicy(id)
	if err != nil {
		return err
	}
	k.account, k.policy = &account, &policy
	return nil
}

func (s *step) identifyToken(k *asker, id token.ID) error {
	const unfit = "the token that asks does not work"
	if !checkID(id) {
		k.unfit = unfit
		return nil
	}
	t, err := s.tx.Token(id)
	if errors.Is(err, tokenstore.ErrNotFound) {
		k.unfit = unfit
		return nil
	}
	if err != nil {
		return err
	}
	if t.UserID != "" {
		err = s.identifyUser(k, t.UserID, "the user of the token that asks")
	} else {
		err = s.identifyAccount(k, t.AccountID)
	}
	if err != nil {
		return err
	}
	k.token = &t
	switch {
	case k.unfit != "":
	case k.account.Disabled:
		k.unfit = "the account of the token that asks is disabled"
	case k.account.TokensOff, k.user != nil && (k.user.TokensOff || k.role.TokensOff):
		k.unfit = unfit + ": its token option is switched off"
	case t.StateAt(k.policy, s.now) != token.Active:
		k.unfit = unfit
	}
	return nil
}

// handsOut lists the verbs after which somebody has more than before: a token that
// did not work, permissions that it did not have, or a secret of it.
var handsOut = []Verb{
	VerbCreateToken, VerbEditToken, VerbRotateToken, VerbEnableToken, VerbRestoreToken, VerbUndoDowngrade, VerbRollBack,
}

// grantOf is what the token that a verb is about may do before it; nil when there
// is none yet, or when it makes no difference.
func (s *step) grantOf() (*token.Grant, error) {
	if s.asker.free() || s.target.id == "" || !slices.Contains(handsOut, s.verb) {
		return nil, nil
	}
	t, err := s.tx.Token(token.ID(s.target.id))
	return &t.Grant, err
}

// checkGiven refuses what was just done when somebody got more by it than they
// hold. It looks at what was written and not at what was asked for, so that no way
// around it is left, and its refusal takes everything back.
func (s *step) checkGiven(was *token.Grant) error {
	if s.asker.free() || !slices.Contains(handsOut, s.verb) || s.target.id == "" {
		return nil
	}
	t, err := s.tx.Token(token.ID(s.target.id))
	if err != nil {
		return err
	}
	if s.verb == VerbEditToken && was != nil && was.Equal(&t.Grant) {
		return nil
	}
	known, err := s.declared()
	if err != nil {
		return err
	}
	var owner *token.Role
	if t.UserID != "" {
		user, err := s.tx.User(t.UserID)
		if err != nil {
			return err
		}
		role, err := s.tx.Role(user.Role)
		if err != nil {
			return err
		}
		owner = &role
	}
	fresh := was == nil || !was.Equal(&t.Grant)
	return s.asker.mayGive(&t, owner, fresh, known)
}

// takesOption lists the verbs that make a token, or make one work again.
var takesOption = []Verb{VerbCreateToken, VerbRotateToken, VerbEnableToken, VerbRestoreToken}

// checkTokenOption refuses those for whoever may have no tokens (O11, O12).
func (s *step) checkTokenOption() error {
	if s.asker.kind == tokenstore.SystemActor || !slices.Contains(takesOption, s.verb) {
		return nil
	}
	account, err := s.tx.Account(s.target.account)
	if err != nil {
		return err
	}
	if account.TokensOff {
		return refuse(ErrForbidden, "API tokens are switched off for the account: ask the operator to switch them on")
	}
	if s.target.user == "" || !checkID(s.target.user) {
		return nil
	}
	user, err := s.tx.User(s.target.user)
	if errors.Is(err, tokenstore.ErrNotFound) || err == nil && user.AccountID != account.ID {
		return nil // the verb says what is wrong with that
	}
	if err != nil {
		return err
	}
	role, err := s.tx.Role(user.Role)
	if err != nil {
		return err
	}
	if user.TokensOff || role.TokensOff {
		whom := "user"
		if !user.TokensOff {
			whom = "role of the user"
		}
		return refuse(ErrForbidden, "API tokens are switched off for the "+whom+": ask an owner or admin of the account to switch them on")
	}
	return nil
}

// anything is the target of verbs about no record in particular.
func anything(*step) (target, error) { return target{}, nil }

// How often a change is tried again when another one came in between, and how
// long to wait at first; the wait doubles.
const (
	raceTries = 6
	raceWait  = 2 * time.Millisecond
)

// write is Store.Write, tried again with fresh reads when records changed in
// between. That is safe for every verb: the version that a caller read is
// compared inside, so that a race with it becomes version_mismatch, and never a
// change that was made on top of one the caller has not seen.
func (a *Authority) write(ctx context.Context, f func(*tokenstore.Tx) error) error {
	wait := raceWait
	for try := 1; ; try++ {
		err := a.Store.Write(ctx, f)
		if !errors.Is(err, tokenstore.ErrConflict) {
			return err
		}
		if try == raceTries {
			// Not the caller's mistake, and worth asking again.
			return fmt.Errorf("%w: other changes kept coming in between: %w", tokenstore.ErrUnavailable, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait *= 2
	}
}

// Limits of what callers say about themselves.
const (
	maxActorName = 100 // code points
	maxByText    = 128 // bytes of an address or a request ID
)

// clean refuses an actor whose name could fake lines or columns in the audit
// log, and drops what the layers above should not have let through.
func (b By) clean() (By, error) {
	if utf8.RuneCountInString(b.Actor.Name) > maxActorName || !plain(b.Actor.Name) {
		return b, invalid("operator", fmt.Sprintf("the name of who asks has at most %d characters, and no control, format or direction characters", maxActorName))
	}
	for _, text := range []*string{&b.RequestID, &b.Actor.Address} {
		if len(*text) > maxByText || !plain(*text) {
			*text = ""
		}
	}
	if b.RequestedBy != "" && !checkID(b.RequestedBy) {
		return b, invalid("requested_by", "must be the ID of a user")
	}
	return b, b.Retry.check()
}

// plain says whether a text is valid UTF-8 without characters that show nothing
// or move others.
func plain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp)
	})
}

// checkID refuses what can not be an ID as if no record had it, so that no store
// has to make sense of it.
func checkID(id token.ID) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// found makes not_found of a record that the store does not have.
func found(err error, what string) error {
	if errors.Is(err, tokenstore.ErrNotFound) {
		return &Error{Code: ErrNotFound.Code, Detail: "there is no such " + what, Err: err}
	}
	return err
}
