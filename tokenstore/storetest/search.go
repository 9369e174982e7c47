package storetest

import (
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

func (b *bench) search(text string) []token.ID {
	b.Helper()
	return idsOf(b.list(tokenstore.TokenQuery{Search: text, Now: Now()}))
}

func searchTests(s suite) {
	s.test("finds a token by its whole ID", func(b *bench) {
		account := b.account()
		i := b.issue(account.ID)
		b.issue(account.ID)
		id := string(i.token.ID)
		require.Equal(b, []token.ID{i.token.ID}, b.search(id))
		require.Empty(b, b.search(id[:len(id)-1]))
		require.Empty(b, b.search(strings.ToUpper(id)))
		require.Empty(b, b.search(string(i.record.ID)), "a secret's ID is no token's")
	})

	s.test("finds a token by the last 4 characters of a valid secret, as they are written (T18)", func(b *bench) {
		account := b.account()
		with := func(last4 string, change func(*token.SecretRecord)) token.ID {
			i := b.issue(account.ID)
			b.addSecret(i.token.ID, func(s *token.SecretRecord) { s.Last4 = last4; change(s) })
			return i.token.ID
		}
		current := with("aB3d", func(*token.SecretRecord) {})
		previous := with("aB3d", func(s *token.SecretRecord) { s.Status, s.ExpiresAt = token.Previous, Now().Add(time.Hour) })
		endless := with("aB3d", func(s *token.SecretRecord) { s.Status = token.Previous })
		with("aB3d", func(s *token.SecretRecord) { s.Status, s.ExpiresAt = token.Previous, Now() })
		with("aB3d", func(s *token.SecretRecord) { s.Status = token.Retired })
		with("AB3D", func(*token.SecretRecord) {})
		require.Equal(b, []token.ID{endless, previous, current}, b.search("aB3d"))
		require.Empty(b, b.search("B3d"))
	})

	s.test("finds tokens by the start of their name, in any case", func(b *bench) {
		account := b.account()
		name := func(name string) token.ID {
			return b.issue(account.ID, func(t *token.Token) { t.Name = name }).token.ID
		}
		export, exporter, other := name("Nightly Export"), name("NIGHTLY EXPORTER"), name("the nightly export")
		require.Equal(b, []token.ID{exporter, export}, b.search("nightly e"))
		require.Equal(b, []token.ID{exporter}, b.search("Nightly Exporter"))
		require.Equal(b, []token.ID{other}, b.search("THE"))
		require.Empty(b, b.search("export"), "within a name")

		street, accent := name("Große Straße"), name("Éclair")
		require.Equal(b, []token.ID{street}, b.search("GROSSE STRASSE"))
		require.Equal(b, []token.ID{accent}, b.search("e\u0301CL"), "an accent of its own")
		require.Empty(b, b.search("eclair"))
	})

	s.test("takes every character for itself", func(b *bench) {
		account := b.account()
		ids := map[string]token.ID{}
		for _, c := range []struct{ name, start string }{
			{`100% sure`, `100%`},
			{`100_ sure`, `100_`},
			{`it's`, `it'`},
			{`say "hi"`, `say "`},
			{`back\slash`, `back\`},
			{`*star`, `*`},
			{`?mark`, `?`},
			{`[set]`, `[s`},
			{`$1 and :b and @c`, `$1`},
			{`'; DROP TABLE tokens; --`, `';`},
			{`日本語`, `日本`},
			{"🏰 keep", "🏰"},
			{"\U0010FFFF the last", "\U0010FFFF"},
			{" a space", " "},
		} {
			ids[c.start] = b.issue(account.ID, func(t *token.Token) { t.Name = c.name }).token.ID
			require.Equal(b, []token.ID{ids[c.start]}, b.search(c.name), c.name)
		}
		for start, id := range ids {
			require.Equal(b, []token.ID{id}, b.search(start), start)
		}
		for _, nothing := range []string{`%`, `_00`, `1_0`, `100%%`, `' OR 1=1 --`, `\`, `back\\`, `??`, `  `, `[a-z]`, `日本人`} {
			require.Empty(b, b.search(nothing), nothing)
		}
		require.Len(b, b.search("100"), 2)
	})
}
