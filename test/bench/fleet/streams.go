package fleet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

// Streams is how long after the revocation streams of each kind were cut.
type Streams struct{ WebSocket, SSE, GRPC Times }

// openStream opens one, and gives what waits for its end, and what ends it for us.
type openStream func(ctx context.Context, n *node, secret string) (ended func() error, end func(), err error)

// cutStreams has three streams open with each token on each node, and revokes
// the tokens one after the other through changing nodes.
func (f *fleet) cutStreams(ctx context.Context, result *Streams) error {
	for i, t := range f.take(f.o.Streams) {
		if err := f.cutOne(ctx, i%nodes, t, result); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) cutOne(ctx context.Context, through int, t known, result *Streams) error {
	ctx, cancel := context.WithTimeout(ctx, ceiling)
	defer cancel()
	kinds := []struct {
		open openStream
		into *Times
	}{{openWebSocket, &result.WebSocket}, {openSSE, &result.SSE}, {openGRPC, &result.GRPC}}
	type cut struct {
		kind int
		at   time.Time
	}
	cuts := make(chan cut, len(kinds)*len(f.nodes))
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, n := range f.nodes {
		for k, kind := range kinds {
			ended, end, err := kind.open(ctx, n, t.secret)
			if err != nil {
				cancel()
				return fmt.Errorf("open a stream through gateway %s: %w", n.name, err)
			}
			waiting.Go(func() {
				defer end()
				_ = ended()
				cuts <- cut{k, time.Now()}
			})
		}
	}
	if _, err := f.nodes[through].manage.RevokeToken(ctx, t.id, true); err != nil {
		cancel()
		return fmt.Errorf("revoke a token: %w", err)
	}
	at := time.Now()
	for range cap(cuts) {
		c := <-cuts
		if ctx.Err() != nil {
			return fmt.Errorf("a stream lives on %s after its token was revoked", ceiling)
		}
		*kinds[c.kind].into = append(*kinds[c.kind].into, max(0, c.at.Sub(at)))
	}
	return nil
}

func openWebSocket(ctx context.Context, n *node, secret string) (func() error, func(), error) {
	conn, _, err := websocket.Dial(ctx, "ws://"+n.addr+"/ws", &websocket.DialOptions{ //nolint:bodyclose // the package's own
		HTTPHeader: http.Header{"Authorization": {"Bearer " + secret}},
	})
	if err != nil {
		return nil, nil, err
	}
	return func() error { _, _, err := conn.Read(ctx); return err }, func() { _ = conn.CloseNow() }, nil
}

func openSSE(ctx context.Context, n *node, secret string) (func() error, func(), error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr+"/sse", nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	// Not the node's client, which gives up on long answers.
	resp, err := n.client.Transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	end := func() { _ = resp.Body.Close() }
	events := bufio.NewScanner(resp.Body)
	if resp.StatusCode != http.StatusOK || !events.Scan() {
		end()
		return nil, nil, errors.New("no event came: " + resp.Status)
	}
	return func() error {
		for events.Scan() {
		}
		return events.Err()
	}, end, nil
}

func openGRPC(ctx context.Context, n *node, secret string) (func() error, func(), error) {
	conn, err := grpc.NewClient("passthrough:///"+n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	end := func() { _ = conn.Close() }
	with := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	stream, err := healthpb.NewHealthClient(conn).Watch(with, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	return func() error { _, err := stream.Recv(); return err }, end, nil
}
