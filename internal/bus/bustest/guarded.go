package bustest

import (
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
)

// Guarded is an embedded server that lets in who has credentials.
type Guarded struct {
	*embedded.Server
	Authority *credentials.Authority
	t         testing.TB
	store     string
}

// StartGuarded starts such a server with credentials of its own.
func StartGuarded(t testing.TB) *Guarded {
	t.Helper()
	data := t.TempDir()
	if _, err := credentials.Make(data); err != nil {
		t.Fatal(err)
	}
	authority, err := credentials.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	g := &Guarded{Authority: authority, t: t, store: t.TempDir()}
	g.Restart()
	t.Cleanup(func() { g.Shutdown() })
	return g
}

// Restart starts the server, on another port; it must not run.
func (g *Guarded) Restart() {
	g.t.Helper()
	account, err := g.Authority.Account()
	if err != nil {
		g.t.Fatal(err)
	}
	g.Server, err = embedded.Start(embedded.Options{StoreDir: g.store, Log: zerolog.Nop(), Operator: &embedded.Operator{
		JWT: g.Authority.Operator(), Accounts: g.Authority.Resolver(), Account: account,
	}})
	if err != nil {
		g.t.Fatal(err)
	}
}

// Publisher connects with a publisher's credentials, makes the streams, and serves agents' readers.
func (g *Guarded) Publisher(refused func(environment string, why error)) *bus.Conn {
	g.t.Helper()
	c := Connect(g.t, g.ClientURL(), func(o *bus.Options) { o.Name, o.Credentials = "publisher", g.Authority.Publisher() })
	Streams(g.t, c)
	stop, err := c.ServeReaders(refused)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(stop)
	return c
}

// A Member is an agent's key and what was issued for it.
type Member struct{ Environment, Agent, Key, Seed, JWT string }

// Enrol makes a key for an agent and has credentials issued for it.
func (g *Guarded) Enrol(environment, agent string) Member {
	g.t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		g.t.Fatal(err)
	}
	key, _ := pair.PublicKey() // neither fails for a pair that was just made
	seed, _ := pair.Seed()
	m := Member{Environment: environment, Agent: agent, Key: key, Seed: string(seed)}
	if m.JWT, err = g.Authority.Agent(environment, agent, key); err != nil {
		g.t.Fatal(err)
	}
	return m
}

// Join connects as an agent does. Change may alter the options first.
func (g *Guarded) Join(m Member, change ...func(*bus.Options)) *bus.Conn {
	g.t.Helper()
	as := func(o *bus.Options) { o.Name, o.JWT, o.Seed = m.Environment+"."+m.Agent, m.JWT, m.Seed }
	return Connect(g.t, g.ClientURL(), append([]func(*bus.Options){as}, change...)...)
}
