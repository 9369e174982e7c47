package token_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

// idleSubject is the common case of a large store: used lately, nothing due.
func idleSubject() *token.Subject {
	return subject(readWrite, usedOn(20, scopeA, scopeB), gaps(30, stop(3, 4), blind(5, 6), stop(22, 23)))
}

func TestAPlanOfAnIdleTokenNeedsNoMemory(t *testing.T) {
	s, now := idleSubject(), day(25)
	var list []token.Action
	list = token.AppendPlan(list, s, now)
	require.Len(t, list, 2)
	require.Zero(t, testing.AllocsPerRun(100, func() { list = token.AppendPlan(list[:0], s, now) }))
}

func BenchmarkPlan(b *testing.B) {
	all := subject(custom("a", "b", "c"), usedOn(20, scopeA), expiring(300), previous(1, 90), previousUsed(20),
		func(s *token.Subject) { s.Policy.DeleteUnused = 90 * oneDay }, notice(token.Downgrade, 43, 50, 43, "b", "c"))
	for _, c := range []struct {
		name string
		of   *token.Subject
		now  time.Time
	}{{"idle", idleSubject(), day(25)}, {"everything", all, day(50)}} {
		b.Run(c.name, func(b *testing.B) {
			var list []token.Action
			b.ReportAllocs()
			for b.Loop() {
				list = token.AppendPlan(list[:0], c.of, c.now)
			}
		})
	}
}
