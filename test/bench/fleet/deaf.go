package fleet

import (
	"bytes"
	"encoding/binary"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

// deaf makes a toxic of what a firewall does that forgets a quiet connection:
// from its next notification on, nothing of the server's arrives any more on a
// connection that listens, and nobody is told. Other connections stay whole.
type deaf struct{}

// lost is the state of one connection.
type lost struct{ all bool }

const deafness = "deaf"

func init() { toxics.Register(deafness, new(deaf)) }

// NewState implements toxics.StatefulToxic.
func (*deaf) NewState() any { return &lost{} }

// Pipe implements toxics.Toxic.
func (*deaf) Pipe(stub *toxics.ToxicStub) {
	state, _ := stub.State.(*lost)
	if state == nil {
		state = &lost{}
	}
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil {
				stub.Close()
				return
			}
			if state.all = state.all || notifies(chunk.Data); !state.all {
				stub.Output <- chunk
			}
		}
	}
}

// Cleanup implements toxics.CleanupToxic: a connection that lost something is of
// no use any more.
func (*deaf) Cleanup(stub *toxics.ToxicStub) {
	if state, ok := stub.State.(*lost); ok && state.all {
		stub.Close()
	}
}

// notifies says whether what came from a server begins with a notification for a
// gateway: "A", a length, the process that notifies, and the channel.
func notifies(data []byte) bool {
	const header = 1 + 4 + 4
	return len(data) > header && data[0] == 'A' && binary.BigEndian.Uint32(data[1:5]) < 200 &&
		bytes.HasPrefix(data[header:], []byte("sallyport"))
}
