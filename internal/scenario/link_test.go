package scenario

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A link is a TCP connection to the bus that can be cut, and on which messages can get lost.
type link struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	down     bool
	open     map[net.Conn]bool
	loses    string // subject of messages that do not arrive; empty: all do
	lost     int
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
	k.mu.Lock()
	to := k.to
	k.mu.Unlock()
	out, err := net.Dial("tcp", to)
	if err != nil {
		_ = in.Close()
		return
	}
	if !k.add(in, out) {
		return
	}
	defer k.remove(in, out)
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	k.deliver(in, bufio.NewReader(out))
}

// deliver passes on what the bus says, until either side is gone, and leaves out the messages that get lost.
func (k *link) deliver(to io.Writer, from *bufio.Reader) {
	for {
		said, err := from.ReadBytes('\n')
		if err != nil {
			return
		}
		fields := bytes.Fields(said)
		lost := false
		if len(fields) > 3 && (string(fields[0]) == "MSG" || string(fields[0]) == "HMSG") {
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return
			}
			payload := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(from, payload); err != nil {
				return
			}
			said, lost = append(said, payload...), k.drops(string(fields[1]))
		}
		if lost {
			continue
		}
		if _, err := to.Write(said); err != nil {
			return
		}
	}
}

func (k *link) drops(subject string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.loses != subject {
		return false
	}
	k.lost++
	return true
}

// lose lets no message of a subject arrive any more, or all with an empty one, and returns how many did not arrive so far.
func (k *link) lose(subject string) (lost int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loses = subject
	return k.lost
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
