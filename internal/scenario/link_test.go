package scenario

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
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
	cuts     int // how often it was cut
	open     map[net.Conn]bool
	loses    string // how the subjects begin of messages that do not arrive; empty: all do
	lost     int
	snap     string // the link breaks after a message with this subject
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
	to, cuts := k.to, k.cuts
	k.mu.Unlock()
	out, err := net.Dial("tcp", to)
	if err != nil {
		_ = in.Close()
		return
	}
	if !k.add(cuts, in, out) {
		return
	}
	defer k.remove(in, out)
	go func() { k.pass(out, bufio.NewReader(in)); _ = out.Close() }()
	k.pass(in, bufio.NewReader(out))
}

// pass passes on what one side says to the other, until either is gone, and leaves out the messages that get lost.
func (k *link) pass(to io.Writer, from *bufio.Reader) {
	for {
		said, err := from.ReadBytes('\n')
		if err != nil {
			return
		}
		fields, subject := bytes.Fields(said), ""
		if len(fields) > 2 && slices.Contains([]string{"MSG", "HMSG", "PUB", "HPUB"}, string(fields[0])) {
			size, err := strconv.Atoi(string(fields[len(fields)-1]))
			if err != nil {
				return
			}
			payload := make([]byte, size+len("\r\n"))
			if _, err := io.ReadFull(from, payload); err != nil {
				return
			}
			said, subject = append(said, payload...), string(fields[1])
		}
		if subject != "" && k.drops(subject) {
			continue
		}
		if _, err := to.Write(said); err != nil {
			return
		}
		if subject != "" && k.snaps(subject) {
			k.cut()
		}
	}
}

// losses are how many messages did not arrive so far.
func (k *link) losses() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lost
}

func (k *link) drops(subject string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	lost := k.loses != "" && strings.HasPrefix(subject, k.loses)
	if lost {
		k.lost++
	}
	return lost
}

func (k *link) snaps(subject string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	snaps := k.snap == subject
	if snaps {
		k.snap = ""
	}
	return snaps
}

// cutAfter cuts the link as soon as a message with a subject has passed, before an answer to it comes back.
func (k *link) cutAfter(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.snap = subject
}

// isDown says whether the link is cut.
func (k *link) isDown() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.down
}

// lose lets no message arrive any more whose subject begins like this; with an empty one all do.
func (k *link) lose(subject string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loses = subject
}

// add says whether the link is up, and was not cut since the connections began.
func (k *link) add(cuts int, conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	up := !k.down && k.cuts == cuts
	for _, c := range conns {
		if up {
			k.open[c] = true
		} else {
			_ = c.Close()
		}
	}
	return up
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
	k.cuts++
	for c := range k.open {
		_ = c.Close()
	}
}

func (k *link) heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}
