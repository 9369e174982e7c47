package authority

import (
	"context"
	"errors"
	"fmt"
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

	VerbCreateUser Verb = "user.create"
	VerbEditUser   Verb = "user.edit"
	VerbShowUser   Verb = "user.show"
	VerbListUsers  Verb = "user.list"

	VerbListRoles    Verb = "role.list"
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
	// Retry makes create and rotate safe to repeat; the zero value does not.
	Retry Retry
}

// target is what a verb is about: a record, or with no ID a list or something to
// come within an account.
type target struct {
	id      string
	account token.ID
}

// permit is the choke point: the one place that says who may do what. Every
// verb comes through it, those that only read included, inside the transaction
// that it is about.
//
// An operator is whoever reaches the admin endpoint or the store's own files and
// could change the store by hand, so that refusing one here would protect
// nothing; what binds operators too are the rules of the policy, which come after.
func permit(actor tokenstore.Actor, v Verb, _ target) error {
	switch actor.Kind {
	case tokenstore.OperatorActor, tokenstore.SystemActor:
		return nil
	default:
		return refuse(ErrForbidden, fmt.Sprintf("this kind of actor may not do %s", v))
	}
}

// step is one verb in one transaction, after it was permitted.
type step struct {
	a      *Authority
	tx     *tokenstore.Tx
	by     By
	verb   Verb
	target target
	now    time.Time
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
	err = run(ctx, func(tx *tokenstore.Tx) error {
		// The clock is read in the transaction: writers stand in line, and what
		// comes later in the log must not be dated before its turn.
		s := &step{a: a, tx: tx, by: by, verb: v, now: a.now()}
		t, missing := find(s)
		if err := permit(by.Actor, v, t); err != nil {
			return err
		}
		if missing != nil {
			return missing
		}
		s.target = t
		return do(s)
	})
	var refusal *Error
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%s: %w", v, err)
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
