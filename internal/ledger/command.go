package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A Command is what somebody wants done. Its ID is made by the client: the same command sent again, or its answer lost, is done
// once and gets the same answer.
type Command struct {
	ID          string // empty for the publisher's own, which are idempotent by their content
	By          string // who acts
	TraceParent string
	Body        Body
	// Statement is what the person signed to have this done; nil where approvals are names, and for the publisher's own.
	Statement *events.Envelope
	// DryRun says that nothing is to be appended: it is only asked what the command would lead to, and nobody needs to have signed it.
	DryRun bool
	// Agents are the versions that agents said of themselves, by environment and agent, as far as the publisher heard them. They are
	// no part of what tells the command from others.
	Agents map[string]map[string]string
}

// Prepare does what needs no state, so that it need not be done while others wait. It is optional, and done once.
func (c Command) Prepare() error {
	if p, ok := c.Body.(interface{ prepare() error }); ok {
		return p.prepare()
	}
	return nil
}

// Verb is what the command is called, in the API too.
func (c Command) Verb() string { return c.Body.name() }

// A Body is what a command asks for; decide is a function of state and time.
type Body interface {
	name() string
	decide(d *decision) error
}

// A decision is a command on its way to an entry.
type decision struct {
	*State
	by       string  // who acts
	said     *spoken // what they signed; nil where nobody needs to
	unsigned bool    // in a dry run: what would need the signature cannot be tried
	atOnce   bool    // nothing waits for the end of a freeze
	trace    string  // traceparent of the command
	agents   map[string]map[string]string
	number   uint64 // that the entry will have
	now      time.Time
	facts    []events.Fact
	stores   []events.ContentStored // not yet in the ledger; they go before the entry
	storing  map[events.Digest]bool // what is in stores
	wave     wave
	read     []reading // deliveries that are recorded
	change   string
	left     []events.LeftOut
	frozen   []events.Frozen // where it waits
	sources  []string        // environments in which only the sources change
	effect   []Effect
	notes    []string
	verdicts []events.Verdict // of policies, on what is proposed
}

// A Decision is what a command leads to: content to be stored first, or, when all of it is there, the entry to append.
type Decision struct {
	Entry  []byte
	Stores [][]byte      // entries to append before deciding again; Entry is nil then. A dry run has neither
	Result Result        // as it will be; Entry is 0
	Effect []Effect      // what changes where, for people
	Notes  []string      // what people should know beside that
	Known  bool          // the command was decided before: Result is the first one's, there is nothing to append
	Digest events.Digest // of the change that the command is about, as a statement for it names it; zero where it is about none
	Terms  *Terms        // what Digest is over, in a dry run of a proposal
}

// An Effect is a resource's value before and after, in one environment; nil is absent.
type Effect struct {
	Environment string          `json:"environment"`
	Key         string          `json:"key"`
	Before      json.RawMessage `json:"before,omitempty"`
	After       json.RawMessage `json:"after,omitempty"`
}

// Decide says what a command leads to now. Errors are *Error where the command is refused. It changes nothing: releases are
// tried on the state and taken back.
func (s *State) Decide(c Command, now time.Time) (Decision, error) {
	digest, err := c.Digest()
	if err != nil {
		return Decision{}, refuse(KindInvalid, "", "the command cannot be written: %v", err)
	}
	if before, known := s.commands[c.ID]; known && c.ID != "" {
		if before.digest != digest {
			return Decision{}, refuse(KindConflict, "use a new id for a new command", "the command id %q was used for another command", c.ID)
		}
		return Decision{Result: before.result, Known: true}, nil
	}
	if err := s.check(c); err != nil {
		return Decision{}, err
	}
	said, err := s.said(c, digest, s.recordedTime(now))
	if err != nil {
		return Decision{}, err
	}
	d := &decision{State: s, by: c.By, said: said, unsigned: s.signed() && c.DryRun, trace: c.TraceParent, agents: c.Agents, number: s.Number + 1, now: s.recordedTime(now), wave: wave{state: s}, storing: map[events.Digest]bool{}}
	err = c.Body.decide(d)
	d.wave.undo()
	if err != nil {
		return Decision{}, err
	}
	about := s.about(d.facts)
	if err := s.authorized(said, about, d.facts, d.now); err != nil {
		return Decision{}, err
	}
	if more := len(d.effect) - maxEffects; more > 0 {
		d.effect = d.effect[:maxEffects]
		d.notes = append(d.notes, fmt.Sprintf("%d more resources change than are listed here; see them with 'publisher diff' or 'publisher show'", more))
	}
	out := Decision{Result: Result{Change: d.change, Released: d.wave.refs(), LeftOut: d.left, SourcesOnly: d.sources, Frozen: d.frozen}, Effect: d.effect, Notes: d.notes, Digest: about.digest}
	if c.DryRun {
		out.Terms, err = d.terms()
		return out, err
	}
	if len(d.stores) > 0 {
		out.Stores, err = d.storeEntries()
		return out, err
	}
	_, out.Entry, err = events.NewEntry(d.number, s.Hash, s.ID, events.Command{ID: c.ID, By: c.By, Digest: digest, Statement: said.envelope()}, d.now, c.TraceParent, d.facts)
	if len(out.Entry) > maxEntry {
		return Decision{}, refuse(KindInvalid, "do it in parts", "the decision has %d bytes; an entry of the ledger has at most %d", len(out.Entry), maxEntry)
	}
	s.trial = trial{out.Entry, d.wave.tried, d.read, said}
	return out, err
}

// check says whether a command can be decided at all.
func (s *State) check(c Command) error {
	if _, genesis := c.Body.(Genesis); !genesis && s.Number == 0 {
		return refuse(KindConflict, "start the publisher once", "the ledger has not begun")
	}
	if err := checkPerson(c.By); err != nil {
		return err
	}
	if err := checkLine("the command id", c.ID, 128); err != nil {
		return err
	}
	return checkLine("traceparent", c.TraceParent, 128)
}

// recordedTime is the time of an entry decided now: it never runs backwards.
func (s *State) recordedTime(now time.Time) time.Time {
	if t := events.Stamp(now); t.After(s.Time) {
		return t
	}
	return s.Time
}

// Digest tells the command from any other with its id. It is the content that a person's statement names.
func (c Command) Digest() (events.Digest, error) {
	b, err := events.Encode(struct {
		Name string `json:"name"`
		By   string `json:"by"`
		Body Body   `json:"body"`
	}{c.Body.name(), c.By, c.Body})
	return events.Sum(b), err
}

func (d *decision) record(t events.Type, subject string, data any) {
	d.facts = append(d.facts, events.Fact{Type: t, Subject: subject, Data: data})
}

const (
	// maxContent bounds one content, and the contents in one entry, in bytes.
	maxContent = 512 << 10
	// contentFrame is more than an entry writes around one content, in bytes.
	contentFrame = 1 << 10
	// maxEffects bounds what an answer lists.
	maxEffects = 10_000
	// maxEntry is below the largest message that a bus takes by default, 1 MiB with its headers.
	maxEntry = 1000 << 10
)

// store makes sure that content is in the ledger, or will be before the entry, and returns its digest and size.
func (d *decision) store(content any) (events.Digest, int, error) {
	b, err := events.Encode(content)
	if err != nil {
		return events.Digest{}, 0, err
	}
	digest := events.Sum(b)
	if _, stored := d.contents[digest]; !stored && !d.storing[digest] {
		d.storing[digest] = true
		d.stores = append(d.stores, events.ContentStored{Digest: digest, JSON: b})
	}
	return digest, len(b), nil
}

// storeEntries packs the contents that are missing into entries of at most maxContent.
func (d *decision) storeEntries() ([][]byte, error) {
	var out [][]byte
	number, previous := d.number, d.Hash
	for len(d.stores) > 0 {
		var facts []events.Fact
		for size := 0; len(d.stores) > 0 && (len(facts) == 0 || size+len(d.stores[0].JSON) <= maxContent); d.stores = d.stores[1:] {
			size += len(d.stores[0].JSON) + contentFrame
			facts = append(facts, events.Fact{Type: events.TypeContentStored, Subject: d.stores[0].Digest.String(), Data: d.stores[0]})
		}
		_, b, err := events.NewEntry(number, previous, d.ID, events.Command{By: d.by}, d.now, "", facts)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
		number, previous = number+1, events.Sum(b)
	}
	return out, nil
}

const maxText = 4096

// checkPerson says whether a name may stand for a person. Until identities exist, people are names.
func checkPerson(name string) error {
	if name == "" {
		return refuse(KindInvalid, "say who you are with --as NAME", "nobody acts here")
	}
	return checkLine("the name of a person", name, 128)
}

// samePerson says whether two names stand for one person: nobody becomes another by writing a name in other letters. It is a rule of
// decisions; what the ledger holds stays as it was verified.
func samePerson(a, b string) bool { return strings.EqualFold(a, b) }

// checkLine says whether a text is one line on which nothing is hidden: two that look the same are the same.
func checkLine(what, text string, most int) error {
	if err := checkText(what, text, most); err != nil {
		return err
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return refuse(KindInvalid, "", "%s holds %U, which is not seen", what, r)
		}
	}
	if strings.TrimSpace(text) != text {
		return refuse(KindInvalid, "", "%s begins or ends with a space", what)
	}
	return nil
}

func checkText(what, text string, most int) error {
	if len(text) > most {
		return refuse(KindInvalid, "", "%s has %d bytes; at most %d are kept", what, len(text), most)
	}
	for _, r := range text {
		if r == unicode.ReplacementChar || (unicode.IsControl(r) && r != '\n' && r != '\t') {
			return refuse(KindInvalid, "", "%s holds the control character %U", what, r)
		}
	}
	return nil
}

func demand(what, text string) error {
	if strings.TrimSpace(text) == "" {
		return refuse(KindInvalid, "", "%s is missing", what)
	}
	return checkSaid(what, text)
}

// checkNoted is checkLine for what is kept for ever: it does not look like a secret either.
func checkNoted(what, text string, most int) error {
	if err := checkLine(what, text, most); err != nil {
		return err
	}
	return noSecret(what, text)
}

// checkSaid says whether what people tell, which is kept for ever, is a text without what looks like a secret.
func checkSaid(what, text string) error {
	if err := checkText(what, text, maxText); err != nil {
		return err
	}
	return noSecret(what, text)
}

// openChange finds a change that is in one of the statuses, the first of which is the usual one.
func (d *decision) openChange(id, verb string, statuses ...Status) (*Change, error) {
	c, found := d.Changes[id]
	if !found {
		return nil, refuse(KindNotFound, "list them with 'publisher changes'", "there is no change %s", id)
	}
	status := c.Status(d.now)
	if slices.Contains(statuses, status) {
		return c, nil
	}
	next := ""
	if status == StatusExpired {
		next = "its author opens it again with 'publisher revise'"
	}
	return nil, refuse(KindConflict, next, "change %s is %s and cannot be %s", id, status, verb)
}

func (s *State) activeEnvironment(name string) (*Environment, error) {
	e, found := s.Environments[name]
	if !found {
		return nil, refuse(KindNotFound, "list them with 'publisher env list'", "there is no environment %s", name)
	}
	if e.Retired {
		return nil, refuse(KindConflict, "", "environment %s is retired", name)
	}
	return e, nil
}

// An Outcome is the answer to a command that was carried out or, in a dry run, would be.
type Outcome struct {
	Result
	DryRun bool          `json:"dryRun,omitempty"`
	Again  bool          `json:"again,omitempty"`  // the command had been carried out before; this is that answer
	Digest events.Digest `json:"digest,omitzero"`  // of the change that it is about, which a statement for the command names
	Terms  *Terms        `json:"terms,omitempty"`  // what that digest is over, in a dry run of a proposal where approvals are signed
	Effect []Effect      `json:"effect,omitempty"` // what changes where
	Notes  []string      `json:"notes,omitempty"`  // what people should know beside that
}
