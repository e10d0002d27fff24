package dashboard_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

var _ dashboard.Backend = (*world)(nil)

// A world is a ledger in memory whose time and agents do as they are told: a publisher as far as pages can tell.
type world struct {
	t        testing.TB
	mu       sync.Mutex
	state    *ledger.State
	reports  fleet.Reports
	standing fleet.LedgerView
	clock    time.Time // the bus's
	acks     uint64
	journal  audit.Journal
	alarms   notify.State
	told     *notify.Overview    // what is said of alarms; nil: what there is
	untold   error               // why nobody is told of alarms
	decided  func(*audit.Record) // alters what is said of decisions; nil: nothing does
	keys     map[fleet.AgentID]*events.Signer
}

var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, state: ledger.New("0b7c5f0e-1f5e-4a1e-9d53-0d2f6a6f7c11"), clock: epoch, keys: map[fleet.AgentID]*events.Signer{},
		reports:  fleet.Reports{Beats: map[fleet.AgentID]fleet.Beat{}, Unrecorded: map[fleet.AgentID][]ledger.Statement{}},
		standing: fleet.LedgerView{Writable: true, Durability: "proven"},
	}
	w.do("publisher", ledger.Genesis{Publisher: signer("publisher").Public()})
	return w
}

func signer(name string) *events.Signer {
	raw := events.Sum([]byte("lockstep dashboard test " + name))
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

// Read implements dashboard.Backend.
func (w *world) Read(fn func(*ledger.State, fleet.Reports, time.Time)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(w.state, w.reports, w.clock)
}

// Fleet implements dashboard.Backend.
func (w *world) Fleet() fleet.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fleet.Build(w.state, w.reports, w.standing, w.clock)
}

// Decisions implements dashboard.Backend.
func (w *world) Decisions(f audit.Filter, before uint64, most int) audit.Page {
	w.mu.Lock()
	defer w.mu.Unlock()
	page := w.journal.Find(f, before, most)
	for i := range page.Found {
		if w.decided != nil {
			w.decided(&page.Found[i])
		}
	}
	return page
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// do appends what a command leads to; the bus stamps it ten milliseconds later.
func (w *world) do(by string, body ledger.Body) ledger.Result {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		w.clock = w.clock.Add(time.Millisecond)
		d, err := w.state.Decide(ledger.Command{By: by, Body: body}, w.clock)
		if err != nil {
			w.t.Fatalf("%T: %v", body, err)
		}
		for _, entry := range append(d.Stores, d.Entry) {
			if entry == nil {
				continue
			}
			applied, _, err := w.state.Apply(entry, w.clock.Add(10*time.Millisecond))
			if err == nil {
				err = w.journal.Add(w.state, applied)
			}
			if err != nil {
				w.t.Fatalf("%T: %v", body, err)
			}
		}
		if d.Entry != nil {
			return d.Result
		}
	}
}

// add adds an environment with agents that have applied what is there and have just beaten.
func (w *world) add(name, stage, region string, agents ...string) {
	w.t.Helper()
	labels := map[string]string{"product": "order-desk", "stage": stage}
	if region != "" {
		labels["region"] = region
	}
	w.do("op", ledger.AddEnvironment{Name: name, Labels: labels, Steward: "emil", Approvals: 1})
	for _, a := range agents {
		id := fleet.AgentID{Environment: name, Agent: a}
		w.keys[id] = signer(name + "/" + a)
		w.do("op", ledger.EnrolAgent{Environment: name, Agent: a, Key: w.keys[id].Public()})
	}
	w.apply(30*time.Millisecond, name)
}

func (w *world) propose(by, reason, key, value string, environments ...string) string {
	w.t.Helper()
	return w.do(by, ledger.Propose{Reason: reason, Ticket: "OPS-42", Within: 600, Edits: []ledger.Edit{{Environments: environments, Set: map[string]json.RawMessage{key: json.RawMessage(value)}}}}).Change
}

func (w *world) approve(by, change string) {
	w.t.Helper()
	w.do(by, ledger.Approve{Change: change, Digest: w.state.Changes[change].Digest})
}

// release proposes and approves.
func (w *world) release(reason, key, value string, environments ...string) string {
	w.t.Helper()
	id := w.propose("anna", reason, key, value, environments...)
	w.pass(37 * time.Minute)
	w.approve("ben", id)
	return id
}

// apply lets all agents of environments apply everything, so long after it was released, and beat.
func (w *world) apply(after time.Duration, environments ...string) {
	w.t.Helper()
	var deliveries []events.Delivery
	for _, name := range environments {
		for _, a := range w.state.Environments[name].AgentList() {
			if a.Position < w.state.Environments[name].Head() {
				deliveries = append(deliveries, w.delivery(name, a.Name, events.WordApplied, after))
			}
		}
	}
	w.record(deliveries)
	for _, name := range environments {
		for _, a := range w.state.Environments[name].AgentList() {
			w.beat(name, a.Name, fleet.InStep)
		}
	}
}

func (w *world) record(deliveries []events.Delivery) {
	w.t.Helper()
	for some := range slices.Chunk(deliveries, ledger.MaxDeliveries) {
		w.do("publisher", ledger.RecordDeliveries{Deliveries: some})
	}
}

// delivery is an agent's statement about everything that it has not applied, stamped so long after the newest release.
func (w *world) delivery(environment, agent string, word events.Word, after time.Duration, alter ...func(*events.Ack)) events.Delivery {
	w.t.Helper()
	e := w.state.Environments[environment]
	r, first := e.Releases[e.Head()-1], e.Agents[agent].Position+1
	if word != events.WordApplied {
		first = e.Head()
	}
	w.acks++
	step := func(part int) time.Time { return r.Stamp.Add(after * time.Duration(part) / 10) }
	ack := events.Ack{
		Environment: environment, Agent: agent, Ledger: w.state.ID, Number: w.acks, Word: word, First: first, Last: e.Head(),
		Chain: r.Chain, Expected: r.State, Observed: r.State, ReadBack: true,
		Phases: events.Phases{Received: step(3), Verified: step(4), Applied: step(8), Committed: step(9)},
	}
	if word != events.WordApplied {
		ack.Observed = events.Digest{}
	}
	for _, f := range alter {
		f(&ack)
	}
	payload, header, err := events.EncodeAck(ack, step(9), w.keys[fleet.AgentID{Environment: environment, Agent: agent}])
	if err != nil {
		w.t.Fatal(err)
	}
	if arrived := step(10); arrived.After(w.clock) {
		w.pass(arrived.Sub(w.clock))
	}
	return events.Delivery{Environment: environment, Agent: agent, Stamp: step(10), Ack: payload, Signature: header}
}

// say records an agent's statement other than applied, and lets it beat so.
func (w *world) say(environment, agent string, word events.Word, condition fleet.Condition, reason events.Reason, message string) {
	w.t.Helper()
	w.record([]events.Delivery{w.delivery(environment, agent, word, 50*time.Millisecond, func(a *events.Ack) { a.Reason, a.Message = reason, message })})
	since := w.clock
	w.beat(environment, agent, condition, func(b *events.Beat) { b.Reason, b.Message, b.Since = reason, message, since })
}

// beat is heard now, from the checkpoint that the agent has.
func (w *world) beat(environment, agent string, condition fleet.Condition, alter ...func(*events.Beat)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, stamp := w.state.Environments[environment], w.clock.Add(3*time.Second) // surely after what it acknowledged
	b := events.Beat{
		Environment: environment, Agent: agent, Ledger: w.state.ID, Clock: stamp, Version: "v1.4.0", Revision: e.Agents[agent].Position,
		Condition: string(condition), Connectors: []string{"desk"},
	}
	if b.Revision > 0 {
		r := e.Releases[b.Revision-1]
		b.Chain, b.State, b.Observed = r.Chain, r.State, r.State
	}
	for _, f := range alter {
		f(&b)
	}
	w.reports.Beats[fleet.AgentID{Environment: environment, Agent: agent}] = fleet.Beat{Beat: b, Stamp: stamp}
}

// beatAll lets all agents but some environments' beat again as they did last.
func (w *world) beatAll(but ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, b := range w.reports.Beats {
		if !slices.Contains(but, id.Environment) {
			b.Clock, b.Stamp = w.clock, w.clock
			w.reports.Beats[id] = b
		}
	}
}

// names are those of n environments, stage by stage, in three regions.
func names(n int) (out [][3]string) {
	for i := range n {
		stage := []string{"dev", "test", "staging", "prod", "prod"}[i%5]
		region := []string{"eu", "us", "ap"}[i/5%3]
		out = append(out, [3]string{fmt.Sprintf("%s-%s-%03d", stage, region, i), stage, region})
	}
	return out
}

const flag = `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"%s"}`

// everyState is a fleet with history in which every state is there.
func everyState(t testing.TB) *world {
	w := newWorld(t)
	all := []string{"dev", "test", "staging", "prod-eu", "prod-us", "prod-ap", "tenant-alba", "tenant-brik", "tenant-corvo", "tenant-delta", "old-prod"}
	for _, name := range all {
		stage, region := "prod", ""
		switch name {
		case "dev", "test", "staging":
			stage = name
		case "prod-eu", "prod-us", "prod-ap":
			region = name[5:]
		default:
			region = "eu"
		}
		agents := []string{"a1"}
		if name == "prod-eu" {
			agents = []string{"a1", "a2"}
		}
		w.add(name, stage, region, agents...)
	}
	w.release("Bring the order desk's configuration under Lockstep", "variable/log-level", `"info"`, "*")
	w.apply(80*time.Millisecond, all...)
	w.release("One page for an order", "flag/order-on-one-page", fmt.Sprintf(flag, "off"), "*")
	w.apply(45*time.Millisecond, all...)
	for i := range 16 {
		w.pass(17 * time.Hour)
		w.release(fmt.Sprintf("Larger orders without a second signature, step %d", i+1), "variable/order-limit", fmt.Sprint(5000+100*i), "*")
		for n, name := range all {
			w.apply(time.Duration(20+(i*37+n*13)%90)*time.Millisecond+time.Duration(i%7/6*n)*time.Second, name)
		}
	}
	broken := w.release("Take payments from the new provider", "endpoint/payments", `{"url":"https://pay.example.com/v2"}`, "prod-*")
	w.apply(60*time.Millisecond, "prod-eu", "prod-ap")
	w.say("prod-us", "a1", events.WordFailed, fleet.Failing, events.ReasonConnector, "the certificate of pay.example.com is not trusted")
	w.pass(11 * time.Minute)
	w.do("ben", ledger.Rollback{Change: broken, Reason: "prod-us cannot reach the new provider"})
	w.apply(50*time.Millisecond, "prod-eu", "prod-ap", "prod-us")
	w.do("sam", ledger.RetireEnvironment{Name: "old-prod", Reason: "moved to prod-eu"})
	w.pass(3 * time.Hour)
	undone := w.release("Try the new theme", "document/theme", `{"name":"winter","colours":{"accent":"#3b5","paper":"#fff"}}`, "test", "staging")
	w.apply(60*time.Millisecond, "test", "staging")
	w.do("ben", ledger.Rollback{Change: undone, Reason: "The theme hides the order number"})
	w.apply(40*time.Millisecond, "test", "staging")
	w.release("Orders on one page for everybody in production", "flag/order-on-one-page", fmt.Sprintf(flag, "on"), "prod-*", "tenant-*", "staging")
	w.apply(70*time.Millisecond, "prod-us", "tenant-delta")
	w.say("prod-ap", "a1", events.WordFailed, fleet.Failing, events.ReasonConnector, "the instance answered 503 Service Unavailable to PUT /settings/flags")
	w.say("tenant-alba", "a1", events.WordTorn, fleet.Torn, events.ReasonConnector, "flags.json was written, services.yaml could not be put back: permission denied")
	w.propose("carla", "Quieter logs\n\nThe disk fills up at night.", "variable/log-level", `"warn"`, "prod-us", "dev")
	w.pass(2 * time.Minute)
	w.beatAll("tenant-brik")
	w.apply(50*time.Millisecond, "staging")
	w.beat("staging", "a1", fleet.Held, func(b *events.Beat) {
		b.Message, b.Since, b.Until = "nightly load test", w.clock.Add(-20*time.Minute), w.clock.Add(40*time.Minute)
	})
	w.beat("prod-us", "a1", fleet.Stale, func(b *events.Beat) {
		b.Reason, b.Message, b.Since, b.Clock = "pulse-missing", "no pulse of the publisher for 52s", w.clock.Add((-52-72)*time.Second), b.Clock.Add(-72*time.Second)
	})
	w.beat("tenant-corvo", "a1", fleet.InStep, func(b *events.Beat) {
		b.Condition, b.Reason, b.Since = string(fleet.Differing), events.ReasonReadBack, w.clock.Add(-40*time.Second)
		b.Message, b.Observed, b.Drift = "the instance holds another flag/order-on-one-page", events.Sum([]byte("edited by hand")), 1
		b.Differing = []events.DifferingResource{{Resource: "flag/order-on-one-page", Fields: []string{"/defaultVariant"}}}
	})
	w.pass(4 * time.Second)
	return w
}

// manyEnvironments is a fleet of n environments, some of which are not in step.
func manyEnvironments(t testing.TB, n int) *world {
	w := newWorld(t)
	var all []string
	for _, name := range names(n) {
		w.add(name[0], name[1], name[2], "a1")
		all = append(all, name[0])
	}
	for i := range 3 {
		w.pass(5 * time.Hour)
		w.release(fmt.Sprintf("Larger orders without a second signature, step %d", i+1), "variable/order-limit", fmt.Sprint(5000+100*i), "*")
		w.apply(time.Duration(40+20*i)*time.Millisecond, all...)
	}
	w.release("One page for an order", "flag/order-on-one-page", fmt.Sprintf(flag, "on"), "*")
	w.apply(60*time.Millisecond, slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(all[:4], name) })...)
	w.say(all[0], "a1", events.WordFailed, fleet.Failing, events.ReasonConnector, "the instance answered 503 Service Unavailable to PUT /settings/flags")
	w.pass(time.Minute)
	w.beatAll(all[1], all[2])
	return w
}

// lostRegion is a fleet of n environments of which those of a region are not heard any more.
func lostRegion(t testing.TB, n int) *world {
	w := manyEnvironments(t, n)
	var lost []string
	for _, name := range names(n) {
		if name[2] == "us" {
			lost = append(lost, name[0])
		}
	}
	w.pass(time.Minute)
	w.beatAll(lost...)
	return w
}

// Alarms implements dashboard.Backend.
func (w *world) Alarms() (notify.Overview, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.told != nil {
		return *w.told, w.untold
	}
	return notify.View(notify.SaidIn(w.state, w.clock), w.clock, &w.alarms), w.untold
}

// raise lets who is on call be told of what is wrong.
func (w *world) raise() {
	view := w.Fleet()
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &notify.Config{Targets: []notify.Target{{Name: "oncall"}, {Name: "chat"}}, Rules: map[string]notify.Setting{"silent": {After: new(time.Duration)}, "approval": {After: new(time.Duration)}}}
	w.alarms.Step(c, view.Ledger.ID, notify.Find(view, fleet.Pending(w.state, w.reports, w.clock), fleet.Who(w.state)), notify.SaidIn(w.state, w.clock), w.clock)
}

// took lets a target take what is due, or not.
func (w *world) took(target string, failed error, refused bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d, due := w.alarms.Due(target, notify.Said{}, w.clock); due {
		w.alarms.Took(d, w.clock, failed, refused, 0)
	}
}

// everyAlarm is everyState where alarms were told, taken care of, silenced, and refused.
func everyAlarm(t testing.TB) *world {
	w := everyState(t)
	w.raise()
	first, err := w.Alarms()
	if err != nil {
		t.Fatal(err)
	}
	w.do("emil", ledger.AcknowledgeAlarm{Alarm: first.Open[0].ID, Environment: first.Open[0].Environment, Reason: "restarting the desk by hand"})
	w.do("carla", ledger.SilenceAlarms{Environment: "tenant-b*", Rule: "silent", Until: w.clock.Add(2 * time.Hour), Reason: "the provider moves this host, OPS-7"})
	w.took("oncall", errors.New("refused: answered 404 Not Found"), true)
	w.took("oncall", errors.New("not sent: dial tcp: connection refused"), false)
	for range 20 {
		w.took("chat", nil, false)
	}
	w.pass(7 * time.Minute)
	w.beatAll("tenant-brik")
	return w
}
