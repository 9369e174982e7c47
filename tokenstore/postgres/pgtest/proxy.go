package pgtest

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy stands between a client and a server and does to the traffic what
// networks do.
type Proxy struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// NewProxy starts a proxy in front of an address. It ends with the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics log without being asked
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", upstream)}
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(p.proxy.Stop)
	return p
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.proxy.Listen }

// Add lets a toxic into the stream "upstream" or "downstream", under a name.
// Kinds and attributes are those of github.com/Shopify/toxiproxy.
func (p *Proxy) Add(name, kind, stream string, attributes map[string]any) {
	p.t.Helper()
	text, err := json.Marshal(map[string]any{"name": name, "type": kind, "stream": stream, "attributes": attributes})
	if err == nil {
		_, err = p.proxy.Toxics.AddToxicJson(strings.NewReader(string(text)))
	}
	if err != nil {
		p.t.Fatalf("pgtest: toxic %s: %v", name, err)
	}
}

// Drop loses all that arrives from the server, or to it, without a word, on
// connections that exist and on new ones. Restore ends that.
func (p *Proxy) Drop(stream string) {
	p.t.Helper()
	p.Add("drop_"+stream, "timeout", stream, map[string]any{"timeout": 0})
}

// Restore ends Drop. Connections that lost something are closed.
func (p *Proxy) Restore(stream string) { p.Remove("drop_" + stream) }

// Remove takes a toxic out again.
func (p *Proxy) Remove(name string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), ceiling)
	defer cancel()
	if err := p.proxy.Toxics.RemoveToxic(ctx, name); err != nil {
		p.t.Fatalf("pgtest: toxic %s: %v", name, err)
	}
}
