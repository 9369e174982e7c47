package notify_test

import (
	"testing"

	"github.com/sallyport/sallyport/notify"
	"github.com/sallyport/sallyport/tokenstore"
)

// BenchmarkIdlePass is one look at an outbox with nothing to do. At one every two
// seconds, 20 ms of it would be one per cent of a core.
func BenchmarkIdlePass(b *testing.B) {
	h := newHouse(b)
	s := h.sender(carrier(func(*tokenstore.Notice) notify.Outcome { return notify.Outcome{} }))
	for b.Loop() {
		if _, err := s.SendDue(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
