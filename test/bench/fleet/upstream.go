package fleet

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// upstream is the API behind the gateways: short answers, a WebSocket, server-sent
// events, and a gRPC service with a stream.
type upstream struct {
	addr, grpcAddr string
	http           *http.Server
	grpc           *grpc.Server
}

func startUpstream(ctx context.Context) (*upstream, error) {
	plain, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	streams, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		_ = plain.Close()
		return nil, err
	}
	mux := http.NewServeMux()
	answer := []byte(strings.Repeat("x", 199) + "\n")
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		_, _, _ = conn.Read(r.Context()) // until the other side goes
	})
	mux.HandleFunc("/sse", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte("data: begun\n\n"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	u := &upstream{
		addr: plain.Addr().String(), grpcAddr: streams.Addr().String(),
		http: &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second},
		grpc: grpc.NewServer(),
	}
	healthpb.RegisterHealthServer(u.grpc, health.NewServer())
	go func() { _ = u.http.Serve(plain) }()
	go func() { _ = u.grpc.Serve(streams) }()
	return u, nil
}

func (u *upstream) stop() {
	_ = u.http.Close()
	u.grpc.Stop()
}
