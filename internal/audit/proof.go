package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// ProofFormat is the first word of a proof.
const ProofFormat = "change proof v1"

// A Proof shows what became of one change to whoever knows the roots (or, where approvals are names, believes the publisher): the entries
// of the ledger that it rests on, each with its place under one seal, and the releases that they made.
type Proof struct {
	Lockstep string         `json:"lockstep"` // ProofFormat
	Ledger   string         `json:"ledger"`   // id
	Change   string         `json:"change"`   // id
	Seal     string         `json:"seal"`
	Entries  []ProvenEntry  `json:"entries"`  // in their order
	Releases []ProofRelease `json:"releases"` // of the change, and of its rollback; in the order of entry, environment and revision
}

// A ProvenEntry is an entry with the proof that it is under the seal.
type ProvenEntry struct {
	Entry json.RawMessage `json:"entry"`
	Proof []events.Digest `json:"proof"`
}

// A ProofRelease is a release as agents got it.
type ProofRelease struct {
	Payload   json.RawMessage `json:"payload"`
	Signature string          `json:"signature"` // the header beside it: a publisher signed the wave that it was in
}

// Encode writes a proof as its file holds it: one line.
func (p Proof) Encode() ([]byte, error) {
	b, err := events.Encode(p)
	return append(b, '\n'), err
}

// A collection is what a proof may need of a ledger that is being read.
type collection struct {
	change   string
	entries  map[uint64]json.RawMessage // that concern the change, or trust
	contents map[events.Digest]uint64   // entries that store contents
	stores   map[uint64]json.RawMessage
	agents   map[string][]uint64 // entries that enrol and revoke agents, and make the environment; by environment
	said     map[uint64]json.RawMessage
	payloads map[string]map[uint64]ledger.Released // releases of the change by environment and revision
}

// Prove verifies a whole ledger and proves what became of a change of it. A ledger that is not as it should be proves nothing: then the
// Verification says why, and there is no Proof. A change that is not there is a *ledger.Error.
func Prove(r *Reader, change string) (*Proof, Verification, error) {
	w := newWalk(r)
	c := &collection{
		change: change, entries: map[uint64]json.RawMessage{}, contents: map[events.Digest]uint64{}, stores: map[uint64]json.RawMessage{},
		agents: map[string][]uint64{}, said: map[uint64]json.RawMessage{}, payloads: map[string]map[uint64]ledger.Released{},
	}
	headers := map[string]map[uint64]string{}
	w.seen = c.see
	w.heldAs = func(h Held) {
		if _, ours := c.payloads[h.Environment][h.Revision]; ours {
			if headers[h.Environment] == nil {
				headers[h.Environment] = map[uint64]string{}
			}
			headers[h.Environment][h.Revision] = h.Signature
		}
	}
	if err := w.run(r, nil); err != nil || !w.OK {
		return nil, w.Verification, err
	}
	found := w.state.Changes[change]
	if found == nil {
		return nil, w.Verification, &ledger.Error{Kind: ledger.KindNotFound, Message: "there is no change " + change, Next: "list them with 'publisher changes'"}
	}
	if found.Recovered {
		return nil, w.Verification, &ledger.Error{Kind: ledger.KindConflict, Message: "the proposal of change " + change + " was lost, so that nothing shows who approved it", Next: "see 'publisher audit log'"}
	}
	c.need(w.state, found)
	p := &Proof{Lockstep: ProofFormat, Ledger: r.Ledger, Change: change, Seal: r.Seal, Releases: []ProofRelease{}}
	for number, entry := range c.entries {
		proof, err := w.tree.Inclusion(number, w.Seal.Size)
		if err != nil {
			return nil, w.Verification, err
		}
		p.Entries = append(p.Entries, ProvenEntry{entry, proof})
	}
	slices.SortFunc(p.Entries, func(a, b ProvenEntry) int { return cmp.Compare(numberOf(a.Entry), numberOf(b.Entry)) })
	var list []ledger.Released
	for _, releases := range c.payloads {
		for _, release := range releases {
			list = append(list, release)
		}
	}
	slices.SortFunc(list, func(a, b ledger.Released) int {
		return cmp.Or(cmp.Compare(a.Entry, b.Entry), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Revision, b.Revision))
	})
	for _, release := range list {
		p.Releases = append(p.Releases, ProofRelease{release.Payload, headers[release.Environment][release.Revision]})
	}
	return p, w.Verification, nil
}

// numberOf is the number of an entry that was verified.
func numberOf(entry []byte) uint64 {
	var e struct {
		Number uint64 `json:"number"`
	}
	_ = json.Unmarshal(entry, &e) // it was read before
	return e.Number
}

// see keeps of an entry what the proof may need.
func (c *collection) see(stored Entry, entry events.Entry, made []ledger.Released) error {
	for _, event := range entry.Events {
		switch event.Type {
		case events.TypeContentStored:
			c.contents[digestOf(event.Data)] = entry.Number
			c.stores[entry.Number] = stored.Entry
			continue
		case events.TypeTrustUpdated, events.TypeHistoryRecovered:
			c.entries[entry.Number] = stored.Entry
		case events.TypeDeliveryRecorded:
			c.said[entry.Number] = stored.Entry
			continue
		}
		fact, err := events.DecodeFact(event)
		if err != nil {
			return err
		}
		about := aboutOf(fact)
		if slices.Contains(about.changes, c.change) {
			c.entries[entry.Number] = stored.Entry
		}
		if about.agent != "" || event.Type == events.TypeEnvironmentAdded {
			c.said[entry.Number] = stored.Entry
			for _, name := range about.environments {
				c.agents[name] = append(c.agents[name], entry.Number)
			}
		}
	}
	for _, release := range made {
		if release.Change == c.change {
			if c.payloads[release.Environment] == nil {
				c.payloads[release.Environment] = map[uint64]ledger.Released{}
			}
			c.payloads[release.Environment][release.Revision] = release
		}
	}
	return nil
}

// digestOf is the digest of a stored content.
func digestOf(data json.RawMessage) (d events.Digest) {
	head, _, _ := bytes.Cut(bytes.TrimPrefix(data, []byte(`{"digest":`)), []byte(","))
	_ = events.DecodeStrict(head, &d) // the ledger was verified: it is one
	return d
}

// need adds what stands elsewhere: contents, who the agents are, and what they said.
func (c *collection) need(s *ledger.State, change *ledger.Change) {
	content := func(d events.Digest) {
		if number, stored := c.contents[d]; stored {
			c.entries[number] = c.stores[number]
		}
	}
	content(change.Sources)
	for _, part := range change.Parts {
		for _, list := range []func() (events.Digest, error){
			func() (events.Digest, error) { return events.OperationsDigest(part.Operations) },
			func() (events.Digest, error) { return events.OperationsDigest(part.Inverse) },
		} {
			if d, err := list(); err == nil {
				content(d)
			}
		}
		for _, number := range c.agents[part.Environment] {
			c.entries[number] = c.said[number]
		}
		for _, agent := range s.Environments[part.Environment].Agents {
			for _, revision := range []uint64{part.Revision, part.Undone} {
				if d := agent.Applied(revision); d != nil {
					c.entries[d.Entry] = c.said[d.Entry]
				}
			}
		}
	}
}

// decodeProof reads the file of a proof strictly.
func decodeProof(file []byte) (p Proof, err error) {
	line, whole := bytes.CutSuffix(file, []byte("\n"))
	if !whole {
		return p, events.Errorf(events.ReasonMalformed, "it has no end")
	}
	if err := events.DecodeStrict(line, &p); err != nil {
		return p, err
	}
	if p.Lockstep != ProofFormat {
		return p, events.Errorf(events.ReasonMalformed, "it is no %q", ProofFormat)
	}
	return p, nil
}
