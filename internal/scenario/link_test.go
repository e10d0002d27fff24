package scenario

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// A link is a TCP connection to the bus that can be cut.
type link struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	down     bool
	open     map[net.Conn]bool
}

// newLink listens until the test ends and forwards to the server of a NATS address.
func newLink(t testing.TB, url string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	k := &link{listener: l, to: strings.TrimPrefix(url, "nats://"), open: map[net.Conn]bool{}}
	t.Cleanup(func() { _ = l.Close(); k.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go k.forward(in)
		}
	}()
	return k
}

func (k *link) url() string { return "nats://" + k.listener.Addr().String() }

func (k *link) forward(in net.Conn) {
	out, err := net.Dial("tcp", k.to)
	if err != nil {
		_ = in.Close()
		return
	}
	if !k.add(in, out) {
		return
	}
	defer k.remove(in, out)
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	_, _ = io.Copy(in, out)
}

// add says whether the link is up.
func (k *link) add(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		if k.down {
			_ = c.Close()
		} else {
			k.open[c] = true
		}
	}
	return !k.down
}

func (k *link) remove(conns ...net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(k.open, c)
	}
}

// cut breaks every connection and lets none through.
func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for c := range k.open {
		_ = c.Close()
	}
}

func (k *link) heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}
