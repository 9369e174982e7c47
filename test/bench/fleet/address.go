package fleet

import (
	"net"
	"sync"
)

// given are the addresses that were handed out in this process. Caddy shares a
// port with whoever has it (SO_REUSEPORT), so that one that is given twice is no
// error: its requests go to either.
var given sync.Map

// FreeAddress gives a loopback address that nobody listens on, and gives it once.
func FreeAddress() (string, error) {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return "", err
		}
		if _, taken := given.LoadOrStore(addr, true); !taken {
			return addr, nil
		}
	}
}
