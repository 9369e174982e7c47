package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/tokenstore"
)

func nodeTests(s suite) {
	put := func(b *bench, n tokenstore.Node) {
		b.Helper()
		require.NoError(b, b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.PutNode(n) }))
	}

	s.test("reports are put, replaced and listed by ID", func(b *bench) {
		require.Empty(b, get(b, (*tokenstore.Tx).Nodes))
		z, a := node("z"), node("a")
		put(b, z)
		put(b, a)
		b.same([]tokenstore.Node{a, z}, get(b, (*tokenstore.Tx).Nodes))
		z.StartedAt, z.SeenAt = Now().Add(time.Hour), Now().Add(2*time.Hour)
		z.Keys = map[string]string{"k1": "00", "k2": "11"}
		put(b, z)
		a.Keys = nil
		put(b, a)
		b.same([]tokenstore.Node{a, z}, get(b, (*tokenstore.Tx).Nodes))
	})

	s.test("is deleted, once", func(b *bench) {
		put(b, node("a"))
		put(b, node("b"))
		remove := func() error {
			return b.store.Write(b.ctx, func(tx *tokenstore.Tx) error { return tx.DeleteNode("a") })
		}
		require.NoError(b, remove())
		b.same([]tokenstore.Node{node("b")}, get(b, (*tokenstore.Tx).Nodes))
		require.ErrorIs(b, remove(), tokenstore.ErrNotFound)
	})
}
