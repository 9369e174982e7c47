package authority_test

import (
	"context"
	rand2 "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
	"github.com/sallyport/sallyport/tokenstore/postgres"
	"github.com/sallyport/sallyport/tokenstore/postgres/pgtest"
	"github.com/sallyport/sallyport/tokenstore/storetest"
)

// asked is one verb on the one token of a history.
type asked struct {
	verb   string
	mode   token.RotationMode
	key    int       // of a retry; 0: none
	until  time.Time // of an extension
	secret token.ID  // that is used
}

// answered is what came of it: a refusal's code, or how the token stood right after.
type answered struct {
	code     string
	replayed bool
	standing
}

// standing is what every answer shows of a token.
type standing struct {
	state             token.State
	current, previous token.ID
	end               time.Time // of the previous secret; zero: none
}

const retryKeys = 3

// believed is the state of the model: what any one who asked one after the other
// would find.
type believed struct {
	standing
	issued [retryKeys + 1]token.ID // under each key, by the latest answer
	used   [retryKeys + 1]bool     // whether that secret was
}

var modeOfKey = [retryKeys + 1]token.RotationMode{"", token.RotateNow, token.RotateTimed, token.RotateUntilConfirmed}

// linear is the token as one who asks at a time sees it. A history is accepted when
// its answers fit some order of its verbs in which none comes before one that had been
// answered when it was asked. At most two secrets ever work, because there is no place
// for a third.
func linear(first standing, grace time.Duration, now time.Time) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return believed{standing: first} },
		Step: func(state, input, output any) (bool, any) {
			b, in, out := state.(believed), input.(asked), output.(answered)
			ok := b.step(&in, &out, grace, now)
			return ok, b
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

func (b *believed) step(in *asked, out *answered, grace time.Duration, now time.Time) bool {
	over := b.state == token.Revoked
	next := b.standing
	refused := func(code string) bool { return out.code == code }
	switch in.verb {
	case "look":
	case "use":
		for key := range b.issued {
			b.used[key] = b.used[key] || in.secret != "" && b.issued[key] == in.secret
		}
		return out.code == ""
	case "disable", "enable":
		if over {
			return refused("invalid_state")
		}
		next.state = map[string]token.State{"disable": token.Disabled, "enable": token.Active}[in.verb]
	case "revoke":
		next.state, next.previous, next.end = token.Revoked, "", time.Time{}
	case "confirm", "rollback", "extend":
		if over {
			return refused("invalid_state")
		}
		if b.previous == "" {
			return refused("no_rotation")
		}
		switch in.verb {
		case "rollback":
			next.current, next.previous, next.end = b.previous, "", time.Time{}
		case "confirm":
			next.previous, next.end = "", time.Time{}
		default:
			next.end = in.until
		}
	case "rotate":
		return b.rotate(in, out, over, grace, now)
	}
	b.standing = next
	return out.code == "" && out.standing == next
}

func (b *believed) rotate(in *asked, out *answered, over bool, grace time.Duration, now time.Time) bool {
	if in.key > 0 && out.code == "retry_in_progress" {
		return true // by whoever asks with the same key at the same gateway
	}
	next := b.standing
	if in.key > 0 && b.issued[in.key] != "" {
		if over || b.issued[in.key] != b.current || b.used[in.key] {
			return out.code == "already_confirmed"
		}
		next.current = out.current
		ok := out.code == "" && out.replayed && out.current != b.current && out.standing == next
		b.standing, b.issued[in.key] = next, out.current
		return ok
	}
	switch {
	case over:
		return out.code == "invalid_state"
	case b.previous != "":
		return out.code == "rotation_in_progress"
	}
	next.current = out.current
	switch in.mode {
	case token.RotateNow:
	case token.RotateTimed:
		next.previous, next.end = b.current, now.Add(grace)
	default:
		next.previous = b.current
	}
	ok := out.code == "" && !out.replayed && out.current != "" && out.current != b.current && out.current != b.previous && out.standing == next
	b.standing = next
	if in.key > 0 {
		b.issued[in.key], b.used[in.key] = out.current, false
	}
	return ok
}

// F39, D22, I5: whatever is asked of a token at the same time, by whichever of two
// gateways and however often an answer was lost, comes out as if it had been asked one
// after the other, and never do more than two secrets work.
func TestVerbsOnOneTokenAreLinearizable(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		h := build(t)
		histories(h, h.Store, 30)
	})
	t.Run("postgres", func(t *testing.T) {
		if testing.Short() {
			t.Skip("starts a server")
		}
		server := pgtest.Start(t)
		h := &house{t: t, clock: &clock{at: storetest.Now()}}
		ring, url := storetest.Ring(t), server.Database()
		require.NoError(t, postgres.Migrate(ctx, url))
		store, err := postgres.Open(ctx, url, postgres.Options{Ring: ring, Now: h.clock.Now})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		h.Authority = another(h, store, ring)
		require.NoError(t, h.EnsureKeys(ctx, system))
		h.policy()
		h.account, err = h.CreateAccount(ctx, kim, authority.NewAccount{Name: "Castle Supplies", Policy: "test"})
		require.NoError(t, err)
		histories(h, store, 10)
	})
}

func another(h *house, store tokenstore.Store, ring *tokenstore.Ring) *authority.Authority {
	return &authority.Authority{
		Store: store, Ring: ring, Prefixes: []string{"sp"}, Now: h.clock.Now, Random: rand2.Reader,
		NewID: func(prefix string) (token.ID, error) { return storetest.ID(prefix), nil },
	}
}

// histories draws so many of them, or as many as HISTORIES says, each by its number.
func histories(h *house, store tokenstore.Store, n int) {
	if text := os.Getenv("HISTORIES"); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		require.NoError(h.t, err)
	}
	gateways := []*authority.Authority{another(h, store, h.Ring), another(h, store, h.Ring)}
	for seed := range n {
		history(h, gateways, uint64(seed))
		if h.t.Failed() {
			return
		}
	}
	h.chainHolds()
}

func history(h *house, gateways []*authority.Authority, seed uint64) {
	const clients, verbs = 4, 8
	issued := h.create()
	id := issued.Token.Token.ID
	first := standing{state: token.Active, current: issued.Token.Current.ID}
	began := time.Now()
	var (
		mu  sync.Mutex
		ops []porcupine.Operation
		wg  sync.WaitGroup
	)
	for client := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(client)))
			known := first.current
			for range verbs {
				in := draw(random, h.clock.Now(), known)
				gateway := gateways[random.IntN(len(gateways))]
				op := porcupine.Operation{ClientId: client, Input: in, Call: time.Since(began).Nanoseconds()}
				out := carryOut(h, gateway, id, &in)
				op.Return, op.Output = time.Since(began).Nanoseconds(), out
				if out.code == "" && out.current != "" {
					known = out.current
				}
				mu.Lock()
				ops = append(ops, op)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	switch porcupine.CheckOperationsTimeout(linear(first, time.Hour, h.clock.Now().UTC().Truncate(time.Microsecond)), ops, time.Minute) {
	case porcupine.Ok:
	case porcupine.Unknown:
		h.t.Logf("history %d took too long to judge", seed)
	default:
		for _, op := range ops {
			h.t.Logf("%d: [%d, %d] %+v -> %+v", op.ClientId, op.Call, op.Return, op.Input, op.Output)
		}
		h.t.Errorf("history %d is not linearizable", seed)
	}
}

// draw is a verb of a random history. Half of the rotations are asked for under one of
// few keys, so that keys come again as they do when answers were lost.
func draw(random *rand.Rand, now time.Time, known token.ID) asked {
	in := asked{verb: "rotate"}
	switch n := random.IntN(100); {
	case n < 34:
		in.key = random.IntN(2) * (1 + random.IntN(retryKeys))
		in.mode = modeOfKey[in.key]
		if in.key == 0 {
			in.mode = token.RotationModes()[random.IntN(4)]
		}
	case n < 52:
		in.verb = "confirm"
	case n < 66:
		in.verb = "rollback"
	case n < 76:
		in.verb, in.until = "extend", now.UTC().Add(time.Duration(1+random.IntN(3))*24*time.Hour).Truncate(time.Microsecond)
	case n < 86:
		in.verb = "look"
	case n < 91:
		in.verb, in.secret = "use", known
	case n < 95:
		in.verb = "disable"
	case n < 99:
		in.verb = "enable"
	default:
		in.verb = "revoke"
	}
	return in
}

func carryOut(h *house, a *authority.Authority, id token.ID, in *asked) answered {
	var (
		v   authority.View
		err error
		out answered
	)
	switch in.verb {
	case "rotate":
		by := kim
		if in.key > 0 {
			by = retrying(strconv.Itoa(in.key), byte(in.key))
		}
		var issued authority.Issued
		issued, err = a.RotateToken(ctx, by, id, authority.Rotation{Mode: in.mode})
		v, out.replayed = issued.Token, issued.Replayed
	case "confirm":
		v, err = a.ConfirmRotation(ctx, kim, id, authority.RotationChange{})
	case "rollback":
		v, err = a.RollBackRotation(ctx, kim, id, authority.RotationChange{})
	case "extend":
		v, err = a.ExtendRotation(ctx, kim, id, in.until, authority.RotationChange{})
	case "look":
		v, err = a.Token(ctx, kim, id)
	case "disable":
		v, err = a.DisableToken(ctx, kim, id, true)
	case "enable":
		v, err = a.EnableToken(ctx, kim, id, true)
	case "revoke":
		v, err = a.RevokeToken(ctx, kim, id, true)
	case "use":
		err = untilWritten(a.Store, func(tx *tokenstore.Tx) error { return tx.MarkUsed(in.secret, h.clock.Now()) })
		if err != nil {
			out.code = err.Error()
		}
		return out
	}
	var refusal *authority.Error
	switch {
	case errors.As(err, &refusal):
		out.code = refusal.Code
	case err != nil:
		out.code = "failed: " + err.Error()
	default:
		out.standing = standing{state: v.State, current: v.Current.ID}
		if v.Previous != nil {
			out.previous, out.end = v.Previous.ID, v.Previous.ExpiresAt
		}
	}
	if n := working(h, a.Store, id); n > 2 {
		out.code = fmt.Sprintf("%d secrets work", n)
	}
	return out
}

// working counts, in one snapshot, the secrets of a token that a gate would accept.
func working(h *house, store tokenstore.Store, id token.ID) (n int) {
	err := store.Read(ctx, func(tx *tokenstore.Tx) error {
		n = 0
		secrets, err := tx.Secrets(id)
		for i := range secrets {
			if secrets[i].ValidAt(h.clock.Now()) {
				n++
			}
		}
		return err
	})
	if err != nil {
		return 1000
	}
	return n
}

// untilWritten tries again when another change came in between.
func untilWritten(store tokenstore.Store, f func(*tokenstore.Tx) error) (err error) {
	for range 50 {
		if err = store.Write(context.Background(), f); !errors.Is(err, tokenstore.ErrConflict) {
			return err
		}
	}
	return err
}

// The checker itself refuses what must not be: a history in which two rotations both
// succeeded, and one in which a secret came back.
func TestTheModelOfATokenRefusesWhatMustNotBe(t *testing.T) {
	first := standing{state: token.Active, current: "a"}
	now := storetest.Now()
	at := func(n int64, in asked, out answered) porcupine.Operation {
		return porcupine.Operation{ClientId: int(n), Input: in, Output: out, Call: n, Return: n}
	}
	rotated := answered{standing: standing{state: token.Active, current: "b", previous: "a"}}
	begin := at(1, asked{verb: "rotate", mode: token.RotateUntilConfirmed}, rotated)
	for name, c := range map[string]struct {
		ok   bool
		then porcupine.Operation
	}{
		"a second rotation":            {false, at(2, asked{verb: "rotate", mode: token.RotateUntilConfirmed}, answered{standing: standing{state: token.Active, current: "c", previous: "b"}})},
		"a second rotation is refused": {true, at(2, asked{verb: "rotate", mode: token.RotateNow}, answered{code: "rotation_in_progress"})},
		"a confirmation that keeps":    {false, at(2, asked{verb: "confirm"}, rotated)},
		"a confirmation":               {true, at(2, asked{verb: "confirm"}, answered{standing: standing{state: token.Active, current: "b"}})},
		"a rollback to the new one":    {false, at(2, asked{verb: "rollback"}, answered{standing: standing{state: token.Active, current: "b"}})},
		"a look that is out of date":   {false, at(2, asked{verb: "look"}, answered{standing: first})},
	} {
		model := linear(first, time.Hour, now)
		require.Equal(t, c.ok, porcupine.CheckOperations(model, []porcupine.Operation{begin, c.then}), name)
	}
}
