package publisher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/credentials"
	"github.com/lockstep-dev/lockstep/internal/bus/embedded"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// keepOutInterval is how often the ledger is looked at for who was revoked: a connected agent loses its connection within seconds.
const keepOutInterval = 500 * time.Millisecond

// A gate is what the bus was told of who may come in.
type gate struct {
	mu      sync.Mutex
	problem error // why it could not be told; nil when it was
}

// openCredentials reads the bus's credentials, where the data directory has some.
func (p *Publisher) openCredentials(context.Context) error {
	authority, err := credentials.Open(p.opts.Data)
	if errors.Is(err, credentials.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	p.authority = authority
	if p.opts.NATS != "" && p.opts.Credentials == "" {
		p.opts.Credentials = authority.Publisher()
	}
	return nil
}

// operator is what the embedded server needs to let in only who has credentials; nil where there are none.
func (p *Publisher) operator() (*embedded.Operator, error) {
	if p.authority == nil {
		return nil, nil
	}
	if err := p.authority.Store(p.revoked()); err != nil {
		return nil, err
	}
	account, err := p.authority.Account()
	return &embedded.Operator{JWT: p.authority.Operator(), Accounts: p.authority.Resolver(), Account: account}, err
}

// checkAuthority asks the bus whether its accounts are those of this publisher's credentials. On an existing NATS that has others, who comes
// in is that one's to say.
func (p *Publisher) checkAuthority(ctx context.Context) error {
	if p.authority == nil {
		return nil
	}
	want, err := p.authority.Account()
	if err != nil {
		return err
	}
	have, err := p.conn.Account(ctx)
	switch {
	case err != nil:
		return err
	case have == want:
		if p.opts.SystemCredentials == "" && p.opts.MonitorURL == "" {
			p.opts.SystemCredentials = p.authority.System()
		}
	default:
		p.authority = nil
		p.log.Warn().Msg("the bus has accounts of its own: agents need credentials of it, and who is revoked must be kept out there")
	}
	return nil
}

// serveReaders makes the consumers that agents read with.
func (p *Publisher) serveReaders() error {
	if p.authority == nil {
		return nil
	}
	stop, err := p.conn.ServeReaders(func(environment string, why error) {
		p.metrics.refusedBus()
		p.log.Warn().Str("environment", environment).Err(why).Msg("an agent asked the bus for what agents have no right to")
	})
	if err != nil {
		return err
	}
	p.group.Defer("readers", func(context.Context) error { stop(); return nil })
	return nil
}

// revoked are the keys of agents that have no business on the bus any more, ordered. A repair has no state to say so.
func (p *Publisher) revoked() (keys []string) {
	p.book.read(func(s *ledger.State) {
		if s == nil {
			return
		}
		for _, e := range s.Environments {
			for _, a := range e.Agents {
				if a.Revoked || e.Retired {
					keys = append(keys, a.Key)
				}
			}
		}
	})
	slices.Sort(keys)
	return keys
}

// keepOut tells the bus who is revoked, at the start and whenever it changes, until ctx ends. Every publisher does: it does no harm twice.
func (p *Publisher) keepOut(ctx context.Context) error {
	if p.authority == nil {
		return nil
	}
	tick := time.NewTicker(keepOutInterval)
	defer tick.Stop()
	var told []string
	for began := false; ; {
		if revoked := p.revoked(); !began || !slices.Equal(told, revoked) {
			err := p.tellBus(ctx, revoked)
			p.gate.set(err)
			if err == nil {
				told, began = revoked, true
			} else if ctx.Err() == nil {
				p.log.Warn().Err(err).Msg("the bus does not know yet who is revoked; trying again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tellBus gives the running server, and every one that is started with what the data directory holds, the accounts.
func (p *Publisher) tellBus(ctx context.Context, revoked []string) error {
	if err := p.authority.Store(revoked); err != nil {
		return err
	}
	accounts, err := p.authority.Accounts(revoked)
	if err != nil {
		return err
	}
	o := bus.Options{Name: p.name + "-accounts", URL: p.opts.NATS, CA: p.opts.CA, Cert: p.opts.Cert, Key: p.opts.Key, Credentials: p.authority.System()}
	if p.server != nil {
		o.InProcess = p.server
	}
	return bus.PushAccounts(ctx, o, accounts)
}

func (g *gate) set(problem error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.problem = problem
}

// checkCredentials says whether the bus keeps out who is revoked.
func (p *Publisher) checkCredentials() api.Check {
	switch {
	case p.authority == nil && p.server != nil:
		return api.Check{Name: "credentials", OK: true, Message: "the bus lets in whoever reaches it; one that does not begins with 'publisher trust init --data NEW'"}
	case p.authority == nil:
		return api.Check{Name: "credentials", OK: true, Message: "the bus's credentials are not issued here"}
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.gate.problem != nil {
		return api.Check{Name: "credentials", Message: "the bus does not know who is revoked: " + p.gate.problem.Error(),
			Next: fmt.Sprintf("it is tried again; or push the accounts in %s with 'nsc push', or restart the server with them", p.authority.Resolver())}
	}
	return api.Check{Name: "credentials", OK: true, Message: fmt.Sprintf("the bus lets in who has credentials, and keeps out those that are revoked (%d)", len(p.revoked()))}
}

// IssuesCredentials says whether Credentials has any.
func (p *Publisher) IssuesCredentials() bool { return p.authority != nil }

// Credentials are what an enrolled agent shows the bus beside its key: a user's JWT; empty where the bus wants none, or others.
func (p *Publisher) Credentials(environment, agent, key string) (string, error) {
	if p.authority == nil {
		return "", nil
	}
	return p.authority.Agent(environment, agent, key)
}
