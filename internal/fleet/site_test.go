package fleet_test

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// site is a ledger in memory with what its agents say beside it.
type site struct {
	t       tester
	state   *ledger.State
	reports fleet.Reports
	now     time.Time // the bus's
	acks    uint64
	entries [][]byte
	stamps  []time.Time
}

var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// newSite has one environment, prod, with agents and two changes: revisions 2 and 3.
func newSite(t tester, agents ...string) *site {
	s := &site{t: t, state: ledger.New("0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"), now: epoch}
	s.reports = fleet.Reports{Beats: map[fleet.AgentID]fleet.Beat{}, Unrecorded: map[fleet.AgentID][]ledger.Statement{}}
	s.do("publisher", ledger.Genesis{Publisher: signer("publisher").Public()})
	s.do("op", ledger.AddEnvironment{Name: "prod", Steward: "Sam", Approvals: 1})
	for _, name := range agents {
		s.enrol(name)
	}
	s.release("variable/x", `1`)
	s.release("variable/x", `2`)
	return s
}

func signer(name string) *events.Signer {
	raw := events.Sum([]byte("lockstep fleet test " + name))
	pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, raw[:])
	if err != nil {
		panic(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		panic(err)
	}
	s, err := events.NewSigner(seed)
	if err != nil {
		panic(err)
	}
	return s
}

// do decides and appends; the bus stamps 10 ms later.
func (s *site) do(by string, body ledger.Body) ledger.Result {
	s.t.Helper()
	for {
		s.now = s.now.Add(time.Second)
		d, err := s.state.Decide(ledger.Command{By: by, Body: body}, s.now)
		if err != nil {
			s.t.Fatalf("%T: %v", body, err)
		}
		for _, entry := range append(d.Stores, d.Entry) {
			if entry == nil {
				continue
			}
			stamp := s.now.Add(10 * time.Millisecond)
			if _, _, err := s.state.Apply(entry, stamp); err != nil {
				s.t.Fatalf("%T: %v", body, err)
			}
			s.entries, s.stamps = append(s.entries, entry), append(s.stamps, stamp)
		}
		if d.Entry != nil {
			d.Result.Entry = s.state.Number
			return d.Result
		}
	}
}

// replay applies the entries to another state.
func (s *site) replay(to *ledger.State) *ledger.State {
	s.t.Helper()
	for i, entry := range s.entries {
		if _, _, err := to.Apply(entry, s.stamps[i]); err != nil {
			s.t.Fatalf("%v", err)
		}
	}
	return to
}

func (s *site) enrol(name string) {
	s.t.Helper()
	s.do("Sam", ledger.EnrolAgent{Environment: "prod", Agent: name, Key: signer(name).Public()})
}

func (s *site) propose(key, value string) string {
	s.t.Helper()
	p := ledger.Propose{Reason: "because", Within: 60, Edits: []ledger.Edit{{Environments: []string{"*"}, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}
	if value == "" {
		p.Edits[0].Set, p.Edits[0].Delete = nil, []string{key}
	}
	return s.do("anna", p).Change
}

func (s *site) release(key, value string) string {
	s.t.Helper()
	c := s.propose(key, value)
	s.do("ben", ledger.Approve{Change: c, Digest: s.state.Changes[c].Digest})
	return c
}

func (s *site) prod() *ledger.Environment { return s.state.Environments["prod"] }

// delivery is an ack that the bus stamps now.
func (s *site) delivery(agent string, word events.Word, last uint64, alter ...func(*events.Ack)) events.Delivery {
	s.t.Helper()
	s.acks++
	r := s.prod().Releases[last-1]
	a := events.Ack{Environment: "prod", Agent: agent, Ledger: s.state.ID, Number: s.acks, Word: word, First: 1, Last: last,
		Chain: r.Chain, Expected: r.State, Observed: r.State, ReadBack: true}
	for _, f := range alter {
		f(&a)
	}
	payload, header, err := events.EncodeAck(a, s.now, signer(agent))
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	return events.Delivery{Environment: "prod", Agent: agent, Stamp: s.now, Ack: payload, Signature: header}
}

// ack is recorded at once.
func (s *site) ack(agent string, word events.Word, last uint64, alter ...func(*events.Ack)) {
	s.t.Helper()
	s.do("publisher", ledger.RecordDeliveries{Deliveries: []events.Delivery{s.delivery(agent, word, last, alter...)}})
}

// beat is heard now.
func (s *site) beat(agent string, revision uint64, condition fleet.Condition, alter ...func(*events.Beat)) {
	b := events.Beat{Environment: "prod", Agent: agent, Ledger: s.state.ID, Clock: s.now, Version: "v1", Revision: revision, Condition: string(condition)}
	if revision > 0 {
		r := s.prod().Releases[revision-1]
		b.Chain, b.State, b.Observed = r.Chain, r.State, r.State
	}
	for _, f := range alter {
		f(&b)
	}
	s.reports.Beats[fleet.AgentID{Environment: "prod", Agent: agent}] = fleet.Beat{Beat: b, Stamp: s.now}
}

func (s *site) pass(d time.Duration) { s.now = s.now.Add(d) }

func (s *site) environment() fleet.Environment {
	s.t.Helper()
	v := fleet.Build(s.state, s.reports, fleet.LedgerView{Writable: true}, s.now)
	i := slices.IndexFunc(v.Environments, func(e fleet.Environment) bool { return e.Name == "prod" })
	return v.Environments[i]
}
