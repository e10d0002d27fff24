package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/policy"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A State is the projection of a ledger's entries up to Number. It is not safe for concurrent use.
type State struct {
	ID           string // of the ledger
	Number       uint64 // of the last entry
	Hash         events.Digest
	Time         time.Time // recordedtime of the last entry
	Trusts       []events.Trust
	Environments map[string]*Environment
	Changes      map[string]*Change
	order        []string // change ids as proposed
	contents     map[events.Digest]json.RawMessage
	commands     map[string]done
	waves        map[uint64][]events.ReleaseRef // by entry
	Losses       []Loss                         // that repairs accepted
	lost         map[uint64]bool                // entries that stand for lost ones
	spent        int                            // no change after a loss has this number or a lower one: a lost one may have had it
	recovering   recovering
	sourced      sourced
	policies     policy.Library
	acknowledged []Acknowledgement // of alarms, the newest last
	silences     []Silence         // as they were made; those that were over when the newest was made are not here
	decisions    uint64            // entries that do not only store contents
	trial        trial             // of the last decision
	whole        bool              // agents keep all that they said
}

// A trial is an entry as it was decided, with the releases that were derived and accepted for it, and the deliveries that were read and
// verified. An entry names the one before it, so that one with the same bytes leads to the same: nothing of it is done twice.
type trial struct {
	entry    []byte
	releases []tried
	read     []reading // in the order of the entry's deliveries
	said     *spoken   // the statement, as it was opened
}

// done is what a command led to; the same command again gets the same answer.
type done struct {
	digest events.Digest
	result Result
}

// An Environment is what the ledger says of one environment.
type Environment struct {
	Name      string
	Labels    map[string]string
	Steward   string
	Approvals int // people who must approve, not counting the author
	Added     time.Time
	Retired   bool
	Lost      bool              // its labels, steward and approvals were lost: nothing is approved before they are said again
	Fold      *fold.Environment // at the head
	Releases  []Release         // revision r is at r-1
	changes   []string          // whose edits its sources hold, oldest first
	taken     int               // how often one of them was taken out
	version   uint64            // of its sources: how often they changed
	Agents    map[string]*Agent
}

// Head is the newest released revision.
func (e *Environment) Head() uint64 { return uint64(len(e.Releases)) }

// A Release is one revision as the ledger recorded it.
type Release struct {
	Revision    uint64
	Kind        events.ReleaseKind
	Change      string // id; empty for a trust release
	Trust       int    // version; of a trust release
	By          string // who ordered it: the author of a change, the person of a rollback
	Reason      string
	approvals   int // how many of its change's it carries: later ones change nothing of it
	Entry       uint64
	Place       int // among the releases of its entry
	Time        time.Time
	Stamp       time.Time // of the entry on the bus; lag is measured from here
	TraceParent string
	Derivation  int
	State       events.Digest // after it
	Chain       events.Digest
	Previous    events.Digest
	recovered   *events.Release // as it was found, where its entry was lost
	past        past            // what agents said of it that they do not hold any more
}

// Recovered says that the release's entry was lost, and the release was found elsewhere: the bus's stamp of the entry is not known.
func (r Release) Recovered() bool { return r.recovered != nil }

// An Agent is what the ledger says of one agent.
type Agent struct {
	Name      string
	Key       string
	Enrolled  uint64 // entry
	Revision  uint64 // the environment's head when it was enrolled
	Revoked   bool
	RevokedAt time.Time // the bus's stamp of the entry that says so
	Standing            // what its statements come to
	said                // they are kept there, the newest ones
}

// A Delivery is a recorded statement of an agent.
type Delivery struct {
	Word      events.Word
	First     uint64
	Last      uint64
	Stamp     time.Time
	AtMost    bool // told by a beat or sent again: it arrived at Stamp or before
	Expected  events.Digest
	Observed  events.Digest
	ReadBack  bool
	Differing []string
	By        uint64
	Reason    events.Reason
	Message   string
	Phases    events.Phases
	Entry     uint64
}

// Status is where a change stands.
type Status string

// The statuses of a change.
const (
	StatusOpen       Status = "open"
	StatusExpired    Status = "expired"
	StatusReleased   Status = "released"  // approved and released; not all agents have acknowledged
	StatusDelivered  Status = "delivered" // every agent of every environment has acknowledged
	StatusRejected   Status = "rejected"
	StatusWithdrawn  Status = "withdrawn"
	StatusRolledBack Status = "rolled-back" // undone wherever it was released
)

// A Change is a proposal and what became of it.
type Change struct {
	ID         string
	Digest     events.Digest
	Author     string
	Reason     string
	Ticket     string
	Within     time.Duration
	Source     *events.Provenance
	Sources    events.Digest
	Proposed   time.Time
	Entry      uint64 // that proposed or last revised it
	Expires    time.Time
	Revised    int
	Parts      []Part           // ordered by environment
	Verdicts   []events.Verdict // of policies, as they were when it was proposed
	Approvals  []events.Approval
	Proposal   *events.Envelope       // the author's statement, where approvals are signed
	opened     events.Opened          // the statements of Proposal and Approvals
	ByRule     bool                   // approved by a rule that demands nobody
	Trust      *events.Trust          // the document that it proposes, instead of parts; those say where it was released
	Roots      []events.RootSignature // under that document, so far
	BreakGlass *GlassBroken           // nil where nobody broke the glass
	Paused     *Paused                // nil where nobody holds it back
	// TraceParent is the W3C trace context of its proposal, or newest revision; may be empty.
	TraceParent string
	Approved    time.Time
	Completed   time.Time
	Ended       string // who rejected or withdrew it
	EndReason   string
	Recovered   bool // its proposal was lost: sources, provenance, window and other environments' parts are not known
	waves       int  // the number of its newest one
	status      Status
}

// A Part is a change's part for one environment.
type Part struct {
	Environment string
	Operations  []events.Operation
	Inverse     []events.Inverse // operation i is undone by inverse i
	inverse     events.Digest    // digest of Inverse
	index       uint64           // of its leaf under the change's digest
	path        []events.Digest  // of that leaf
	Revision    uint64           // that released it; 0 when it was not
	Undone      uint64           // revision that undid it; 0 when none did
	InSources   bool             // its edits are in the environment's sources
	adopted     uint64           // entry that took them there; 0 when none did
	abandoned   uint64           // entry that took them out again
	version     uint64           // of the environment's sources that it was compiled over
	LeftOut     *events.LeftOut
	Frozen      *events.Frozen // it is approved here and waits; nil where it does not
}

// SourcesOnly says that the change edits the environment's sources, and no resource of it: it gets no release.
func (p Part) SourcesOnly() bool { return len(p.Operations) == 0 }

// Frozen says that the change waits in an environment for the end of a freeze.
func (c *Change) Frozen() bool {
	return slices.ContainsFunc(c.Parts, func(part Part) bool { return part.Frozen != nil })
}

// Status is where the change stands at a time: an open proposal expires.
func (c *Change) Status(now time.Time) Status {
	if c.status == StatusOpen && now.After(c.Expires) {
		return StatusExpired
	}
	return c.status
}

// New is the state before the first entry of a ledger.
func New(id string) *State {
	return &State{
		ID: id, Environments: map[string]*Environment{}, Changes: map[string]*Change{},
		contents: map[events.Digest]json.RawMessage{}, commands: map[string]done{},
		waves: map[uint64][]events.ReleaseRef{}, lost: map[uint64]bool{},
	}
}

// NewWhole is New for whoever looks at all that agents ever said: they keep every statement, however many those are.
func NewWhole(id string) *State {
	s := New(id)
	s.whole = true
	return s
}

// Trust is the newest trust document; nil before the first entry.
func (s *State) Trust() *events.Trust {
	if len(s.Trusts) == 0 {
		return nil
	}
	return &s.Trusts[len(s.Trusts)-1]
}

// Wave are the releases of an entry in the order in which they are signed.
func (s *State) Wave(entry uint64) []events.ReleaseRef { return s.waves[entry] }

// Stamp notes when the bus stored an entry: that is known only once the entry is read back.
func (s *State) Stamp(entry uint64, stamp time.Time) {
	for _, ref := range s.waves[entry] {
		if r := &s.Environments[ref.Environment].Releases[ref.Revision-1]; !r.Recovered() {
			r.Stamp = stamp
		}
	}
}

// ChangeList are the changes as they were proposed, oldest first.
func (s *State) ChangeList() []*Change {
	out := make([]*Change, len(s.order))
	for i, id := range s.order {
		out[i] = s.Changes[id]
	}
	return out
}

// EnvironmentList are the environments ordered by name, retired ones too.
func (s *State) EnvironmentList() []*Environment {
	out := make([]*Environment, 0, len(s.Environments))
	for _, name := range slices.Sorted(maps.Keys(s.Environments)) {
		out = append(out, s.Environments[name])
	}
	return out
}

// AgentList are an environment's agents ordered by name, without the revoked ones.
func (e *Environment) AgentList() []*Agent {
	var out []*Agent
	for _, name := range slices.Sorted(maps.Keys(e.Agents)) {
		if a := e.Agents[name]; !a.Revoked {
			out = append(out, a)
		}
	}
	return out
}

// LastAgent is the agent that was revoked last, by whom an environment without agents was last known to stand; nil where there never was one.
func (e *Environment) LastAgent() (last *Agent) {
	for _, name := range slices.Sorted(maps.Keys(e.Agents)) {
		if a := e.Agents[name]; last == nil || a.RevokedAt.After(last.RevokedAt) {
			last = a
		}
	}
	return last
}

// WrittenSources are the edits of a change as its author wrote them; none where they were lost.
func (s *State) WrittenSources(c *Change) (Sources, error) {
	if c.Recovered {
		return Sources{}, nil
	}
	return contents[Sources]{}.read(s, c.Sources)
}

// contents are contents that were read; environments that share one share its values.
type contents[T any] map[events.Digest]T

func (c contents[T]) read(s *State, digest events.Digest) (out T, err error) {
	if out, read := c[digest]; read {
		return out, nil
	}
	stored, found := s.contents[digest]
	if !found {
		return out, fmt.Errorf("%w: content %s is not in the ledger", ErrBroken, digest)
	}
	if err := events.DecodeStrict(stored, &out); err != nil {
		return out, fmt.Errorf("content %s: %w", digest, err)
	}
	c[digest] = out
	return out, nil
}

// PartFor is the change's part for an environment.
func (c *Change) PartFor(environment string) (*Part, bool) {
	i, found := slices.BinarySearchFunc(c.Parts, environment, func(p Part, name string) int { return strings.Compare(p.Environment, name) })
	if !found {
		return nil, false
	}
	return &c.Parts[i], true
}

// Demanded is how many people must approve a change: what the strictest of its environments and policies demands.
func (s *State) Demanded(c *Change) int {
	demanded := 1
	for _, p := range c.Parts {
		if e := s.Environments[p.Environment]; e != nil {
			demanded = max(demanded, e.Approvals)
		}
	}
	for _, v := range c.Verdicts {
		demanded = max(demanded, v.Approvals)
	}
	return demanded
}

// Counts says whether the agent counts for a release: an agent enrolled later does not count for older revisions, and one that was
// revoked since only for what it acknowledged.
func (a *Agent) Counts(r Release) bool {
	return a.Enrolled <= r.Entry && (!a.Revoked || a.Position >= r.Revision)
}

// Counting are those of an environment's agents, the revoked ones among them, that count for a release; where none does, it is for those
// that came later to apply it.
func Counting(r Release, agents []*Agent) (out []*Agent) {
	for _, a := range agents {
		if a.Counts(r) {
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		return out
	}
	return slices.DeleteFunc(slices.Clone(agents), func(a *Agent) bool { return a.Revoked })
}
