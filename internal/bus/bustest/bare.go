package bustest

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A Bare server has no JetStream: like one that is cut off from the others of its cluster it keeps its clients and answers nothing but
// what the test lets it answer.
type Bare struct {
	t  testing.TB
	ns *server.Server
	nc *nats.Conn
}

// StartBare starts a server without JetStream, and with a limit on payloads (0: the usual one).
func StartBare(t testing.TB, maxPayload int32) *Bare {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxPayload: maxPayload})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(Deadline) {
		t.Fatal("a bare server does not start")
	}
	nc, err := nats.Connect(ns.ClientURL(), nats.Timeout(Deadline))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &Bare{t, ns, nc}
}

// URL is where clients connect.
func (b *Bare) URL() string { return b.ns.ClientURL() }

// Clients is how many are connected, without the test itself.
func (b *Bare) Clients() int { return b.ns.NumClients() - 1 }

// Answers lets the server answer what is sent to a subject with what answer returns, as JSON.
func (b *Bare) Answers(subject string, answer func() any) {
	b.t.Helper()
	_, err := b.nc.Subscribe(subject, func(m *nats.Msg) {
		body, err := json.Marshal(answer())
		if err == nil {
			err = m.Respond(body)
		}
		if err != nil {
			b.t.Error(err)
		}
	})
	if err == nil {
		err = b.nc.Flush()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
