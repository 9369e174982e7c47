package token_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/token"
)

func BenchmarkParseSecret(b *testing.B) {
	text, prefixes := newSecret(b, 1).Reveal(), []string{token.DefaultPrefix}
	for name, candidate := range map[string]string{"good": text, "bad": text[:len(text)-1] + "!"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := token.ParseSecret(candidate, prefixes); (err == nil) != (name == "good") {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	secret := newSecret(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		_ = secret.Digest()
	}
}

func BenchmarkAllows(b *testing.B) {
	for _, n := range []int{1, 8, 9, 64, 1000} {
		list := allowList(b, spread(n)...)
		for name, addr := range map[string]netip.Addr{"hit": netip.MustParseAddr("10.0.0.1"), "miss": netip.MustParseAddr("203.0.113.9")} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if list.Allows(addr) != (name == "hit") {
						b.Fatal(name)
					}
				}
			})
		}
	}
}

func BenchmarkRequired(b *testing.B) {
	for _, n := range []int{10, 1000} {
		routes := manyRoutes(b, n)
		for name, path := range map[string]string{
			"literal": "/v1/thing7", "param": "/v1/thing7/42", "rest": "/v1/thing7/42/refunds/9", "fallback": "/v2/elsewhere",
		} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if routes.Required("POST", path, false).Name == "" {
						b.Fatal(name)
					}
				}
			})
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	c := newCase()
	b.ReportAllocs()
	for b.Loop() {
		if reason, err := token.Decide(&c.token, &c.facts, noon); reason != token.Allowed || err != nil {
			b.Fatal(reason, err)
		}
	}
}
