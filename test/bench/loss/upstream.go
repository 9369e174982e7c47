package loss

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The gateway hands on what a client sends under these names.
const (
	keyHeader  = "Loss-Key"
	sentHeader = "Loss-Sent"
)

// upstream notes what reaches it, whether the client gets the answer or not.
type upstream struct {
	addr string
	http *http.Server
	got  atomic.Int64
	// latest is when the latest request of a key that came was sent.
	latest []atomic.Int64
}

func startUpstream(ctx context.Context, keys int) (*upstream, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{addr: l.Addr().String(), latest: make([]atomic.Int64, keys)}
	answer := []byte(strings.Repeat("x", 199) + "\n")
	u.http = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(r.Header.Get(keyHeader))
		sent, errSent := strconv.ParseInt(r.Header.Get(sentHeader), 10, 64)
		if err != nil || errSent != nil || i < 0 || i >= len(u.latest) {
			http.Error(w, "not one of ours", http.StatusBadRequest)
			return
		}
		u.got.Add(1)
		raise(&u.latest[i], sent)
		_, _ = w.Write(answer)
	})}
	go func() { _ = u.http.Serve(l) }()
	return u, nil
}

func (u *upstream) stop() { _ = u.http.Close() }

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}
