package authority

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Verification is the answer of verify: what the gate would say.
type Verification struct {
	Valid bool
	Code  string // the gate's code when it would refuse
	Token *View  // nil for an unknown secret
	// Scope is what the operation needs; zero when the question named none.
	Scope token.Scope
}

// Question is what verify judges. Being asked about is not use.
type Question struct {
	Secret  string
	Address netip.Addr
	Method  string
	// Path is not judged here: which scope a path needs is configured at a gate,
	// and whoever knows it sets Scope.
	Path string
	// Scope overrides the method's own when it is not zero.
	Scope token.Scope
}

// The codes that are about no token.
const (
	codeMalformed = "malformed_token"
	codeUnknown   = "unknown_token"
)

// judged is a secret with what the gate would say to it.
type judged struct {
	record *tokenstore.Record // nil for an unknown secret
	scope  token.Scope
	valid  bool
	code   string
	now    time.Time
}

// judge looks a secret up and judges it, without being use of it.
func (a *Authority) judge(ctx context.Context, by By, q Question) (judged, error) {
	// The verb is permitted before the store is asked about the secret, which
	// Lookup does in a snapshot of its own.
	if err := a.see(ctx, by, VerbVerifyToken, anything, func(*step) error { return nil }); err != nil {
		return judged{}, err
	}
	secret, err := token.ParseSecret(q.Secret, a.Prefixes)
	if err != nil {
		return judged{code: codeMalformed}, nil
	}
	record, err := a.lookUp(ctx, secret.Digest())
	if errors.Is(err, tokenstore.ErrNotFound) {
		return judged{code: codeUnknown}, nil
	}
	if err != nil {
		return judged{}, fmt.Errorf("%s: %w", VerbVerifyToken, err)
	}

	j := judged{record: record, scope: q.Scope, now: a.now()}
	if q.Scope.Name == "" && q.Method != "" {
		j.scope = token.MethodScope(q.Method)
	}
	facts := token.Facts{
		Secret: &record.Secret, Account: record.Account, User: record.User, Role: record.Role, Policy: record.Policy,
		Address: q.Address, Required: j.scope,
	}
	if j.scope.Name == "" {
		facts.Required = token.ReadScope
	}
	reason, err := token.Decide(&record.Token, &facts, j.now)
	if err != nil {
		return judged{}, fmt.Errorf("%s: %w", VerbVerifyToken, err)
	}
	if j.scope.Name == "" && reason.Authenticated() {
		reason = token.Allowed
	}
	j.valid, j.code = reason == token.Allowed, reason.Code()
	return j, nil
}

// Verify judges a secret as the gate would, from the store. Without a method or a
// scope it judges only who comes and from where, and not what they may do.
func (a *Authority) Verify(ctx context.Context, by By, q Question) (Verification, error) {
	j, err := a.judge(ctx, by, q)
	if err != nil {
		return Verification{}, err
	}
	record, now := j.record, j.now
	out := Verification{Valid: j.valid, Code: j.code, Scope: j.scope}
	if record == nil {
		return out, nil
	}

	var (
		secrets []token.SecretRecord
		lives   map[token.ID]tokenstore.Life
	)
	err = a.Store.Read(ctx, func(tx *tokenstore.Tx) (err error) {
		if secrets, err = tx.Secrets(record.Token.ID); err != nil {
			return err
		}
		lives, err = tx.Lives(record.Token.ID)
		return err
	})
	if err != nil {
		return Verification{}, fmt.Errorf("%s: %w", VerbVerifyToken, err)
	}
	v := viewOf(record.Token, record.Policy, secrets, now).withLife(lives[record.Token.ID], now)
	out.Token = &v
	return out, nil
}

// lookUp finds a secret under whichever master key it is stored.
func (a *Authority) lookUp(ctx context.Context, d token.Digest) (*tokenstore.Record, error) {
	for _, keyID := range a.Ring.IDs() {
		lookup, ok := a.Ring.Lookup(keyID, d)
		if !ok {
			continue
		}
		record, err := a.Store.Lookup(ctx, lookup)
		if !errors.Is(err, tokenstore.ErrNotFound) {
			return record, err
		}
	}
	return nil, tokenstore.ErrNotFound
}
