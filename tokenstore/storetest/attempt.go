package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
)

func attemptTests(s suite) {
	put := func(b *bench, a tokenstore.Attempt) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.PutAttempt(a) }))
	}
	find := func(a tokenstore.Attempt) func(tx *tokenstore.Tx) (tokenstore.Attempt, error) {
		return func(tx *tokenstore.Tx) (tokenstore.Attempt, error) { return tx.Attempt(a.Actor, a.Route, a.Key) }
	}

	s.test("comes back as it was put, and is replaced as a whole", func(b *bench) {
		a := attempt("k")
		put(b, a)
		b.same(a, get(b, find(a)))
		a.BodyHash, a.TokenID, a.SecretID = [32]byte{9}, "tok_2", "sec_2"
		a.CreatedAt = a.CreatedAt.Add(time.Second)
		put(b, a)
		b.same(a, get(b, find(a)))
	})

	s.test("is one of an actor, on a route, under a key", func(b *bench) {
		a := attempt("k")
		put(b, a)
		for name, other := range map[string]tokenstore.Attempt{
			"another actor":        {Actor: "operator2", Route: a.Route, Key: a.Key},
			"another route":        {Actor: a.Actor, Route: "POST /tokens/tok_1/rotate", Key: a.Key},
			"another key":          {Actor: a.Actor, Route: a.Route, Key: "K"},
			"a byte further along": {Actor: a.Actor + "P", Route: a.Route[1:], Key: a.Key},
		} {
			require.ErrorIs(b, getErr(b, find(other)), tokenstore.ErrNotFound, name)
			other.CreatedAt = a.CreatedAt
			put(b, other)
			b.same(other, get(b, find(other)), name)
		}
		b.same(a, get(b, find(a)))
	})

	s.test("is forgotten after a day, when another is put", func(b *bench) {
		old, kept := attempt("old"), attempt("kept")
		old.CreatedAt = old.CreatedAt.Add(-24*time.Hour - time.Minute)
		kept.CreatedAt = kept.CreatedAt.Add(-24*time.Hour + time.Minute)
		put(b, old)
		put(b, kept)
		put(b, attempt("new"))
		require.ErrorIs(b, getErr(b, find(old)), tokenstore.ErrNotFound)
		b.same(kept, get(b, find(kept)))
	})
}
