package publisher

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/lifecycle"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// RepairOptions of a Repair.
type RepairOptions struct {
	Options          // Data, and how its bus is reached
	From    []string // more copies of the ledger: ledger.copy files of other publishers or of backups
	Choose  string   // where copies contradict each other: the beginning of the hash of the newest entry to keep

	AcceptLoss bool   // where no copy has an entry, go on with the signed releases that are left of it
	By, Reason string // who accepts that, and why
}

// A Repair writes a verified ledger from what copies of it hold: the bus's, the publisher's own, and those that are named. No
// publisher may run on the data directory meanwhile, and none should on the bus. Nothing is changed before Run.
type Repair struct {
	Ledger string           `json:"ledger,omitempty"` // id; empty where none was chosen
	Time   time.Time        `json:"time,omitzero"`    // of the newest entry
	Copies []CopyFound      `json:"copies"`
	Chains []ChainFound     `json:"chains"`        // the ledgers that verify; more than one is a fork
	Beyond []string         `json:"beyond"`        // who knows of more than the ledger that will be written holds
	Bus    string           `json:"bus,omitempty"` // why the bus's ledger will be written anew; empty: it is good
	Copy   bool             `json:"copy"`          // the publisher's copy will be written anew
	Saved  []string         `json:"saved"`         // files that keep what was replaced
	Tip    events.LedgerTip `json:"tip"`
	Loss   *LossFound       `json:"loss,omitempty"` // what no copy holds; nil: nothing is known to be lost

	o     RepairOptions
	p     *Publisher // its data directory and bus connection
	chain *chain
	onBus []bus.Stored // as it was found
	unfit []bus.Stored // releases that do not follow what is left
}

const (
	nameOfBus  = "the bus"
	nameOfCopy = "ledger.copy"
)

// OpenRepair locks the data directory, starts or reaches its bus, and looks at all copies. Where they contradict each other and none
// is chosen, or none can be verified, the Repair says what was found, and the error is not nil. Stop ends it.
func OpenRepair(ctx context.Context, o RepairOptions) (_ *Repair, err error) {
	if _, err := os.Stat(o.Data); err != nil {
		return nil, fmt.Errorf("data directory: %w: name the publisher's with --data; a new one needs publisher.key from a backup", err)
	}
	if o.AcceptLoss && (strings.TrimSpace(o.By) == "" || strings.TrimSpace(o.Reason) == "") {
		return nil, &ledger.Error{Kind: ledger.KindInvalid, Message: "a loss is accepted by somebody and for a reason", Next: "name them with --as NAME and -m TEXT"}
	}
	o.NATSListen = "127.0.0.1:0" // agents come back when the publisher does
	if o.Options, err = o.Options.withDefaults(); err != nil {
		return nil, err
	}
	r := &Repair{o: o, p: &Publisher{
		opts: o.Options, log: o.Log, name: "repair-" + uuid.NewString(), group: lifecycle.New(ctx), book: &book{changed: make(chan struct{})},
	}}
	for _, step := range []func(context.Context) error{r.p.openData, r.p.openCredentials, r.p.openBus, r.look} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Stop ends the repair, finished or not.
func (r *Repair) Stop(ctx context.Context) error { return r.p.Stop(ctx) }

// Needed says whether there is anything to write.
func (r *Repair) Needed() bool { return r.Bus != "" || r.Copy }

// look reads all copies and decides what to write.
func (r *Repair) look(ctx context.Context) error {
	s := newSalvage()
	onBus := s.copyOf(nameOfBus)
	err := r.p.conn.SalvageLedger(ctx, func(m bus.Stored) error {
		r.onBus = append(r.onBus, m)
		s.take(onBus, m)
		return nil
	})
	if err != nil {
		return err
	}
	own, err := s.readFile(nameOfCopy, r.copyPath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, path := range r.o.From {
		if _, err := s.readFile(path, path); err != nil {
			return err
		}
	}
	chains := s.chains()
	r.Chains = s.describe(chains)
	against := &chain{}
	if len(chains) > 0 {
		if r.chain, err = choose(chains, r.o.Choose); err != nil {
			r.compareCopies(s, chains[0])
			return err
		}
		against = r.chain
		if err := errors.Join(s.newer(r.chain), r.lookBeyond(ctx)); err != nil {
			r.compareCopies(s, against)
			return err
		}
	}
	if err := r.lookForLoss(ctx, s, chains, time.Now()); err != nil {
		r.compareCopies(s, against)
		return err
	}
	r.compareCopies(s, r.chain)
	state := r.chain.state
	r.Ledger, r.Tip, r.Time = state.ID, events.LedgerTip{Number: state.Number, Hash: state.Hash}, state.Time
	r.Copy = !own.whole(r.chain)
	if !onBus.whole(r.chain) {
		r.Bus = r.Copies[0].Message
	} else if err := r.p.conn.CheckLedger(ctx, r.streams()); err != nil {
		if r.Bus = err.Error(); errors.Is(err, bus.ErrUnavailable) {
			return err
		}
	}
	return nil
}

func (r *Repair) compareCopies(s *salvage, with *chain) {
	for _, c := range s.copies {
		r.Copies = append(r.Copies, c.found(with))
	}
}

// readFile adds a copy that is a file. What is no entry is counted where the next one should stand.
func (s *salvage) readFile(name, path string) (*copyHeld, error) {
	c := s.copyOf(name)
	file, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("read a copy of the ledger: %w", err)
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return c, fmt.Errorf("read a copy of the ledger: %w", err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			if m, parse := parseCopied(line); parse != nil {
				c.last++
				c.unreadable[c.last] = parse
			} else {
				s.take(c, m)
			}
		}
		if err != nil {
			return c, nil
		}
	}
}

// lookBeyond asks the release stream and the agents' beats, as the bus holds them, for more than the ledger will hold.
func (r *Repair) lookBeyond(ctx context.Context) error {
	b := r.p.book
	b.state = r.chain.state
	for _, e := range r.chain.entries {
		b.hashes = append(b.hashes, e.hash)
	}
	told := map[string]bool{}
	_, err := r.p.conn.ReadAllReleases(ctx, func(environment string, m bus.Stored) error {
		if err := r.p.contradicts(environment, m); err != nil && !told[environment] {
			told[environment] = true
			r.Beyond = append(r.Beyond, events.MessageOf(err))
		}
		return nil
	})
	if err != nil && !errors.Is(err, bus.ErrNoStream) {
		return err
	}
	r.p.reports = newReports(b)
	if err := r.p.conn.ReadBeats(ctx, r.p.reports.beat); err != nil && !errors.Is(err, bus.ErrNoStream) {
		return err
	}
	for id, beat := range r.p.reports.beats() {
		if err := r.p.judgeBeat(id, beat); err != nil {
			r.Beyond = append(r.Beyond, events.MessageOf(err))
		}
	}
	return nil
}

func (r *Repair) copyPath() string { return filepath.Join(r.o.Data, nameOfCopy) }

func (r *Repair) streams() bus.StreamOptions {
	return bus.StreamOptions{LedgerID: r.Ledger, Replicas: r.o.Replicas, LeaseTTL: r.o.LeaseTTL}
}

// Run writes what has to be written. What is replaced is kept in files beside it, and the copy is written before the bus's ledger is
// deleted: a repair that was interrupted is begun again and finds everything.
func (r *Repair) Run(ctx context.Context, now time.Time) error {
	entries := make([]bus.Stored, len(r.chain.entries))
	for i, e := range r.chain.entries {
		entries[i] = e.Stored
	}
	suffix := ".before-repair-" + now.UTC().Format("20060102T150405.000Z")
	if r.Bus != "" && len(r.onBus) > 0 {
		if err := r.save("ledger"+suffix, func(path string) error { return writeCopy(path, r.onBus, r.o.Fault, fault.ReplacedKept) }); err != nil {
			return err
		}
	}
	if r.Copy {
		if _, err := os.Stat(r.copyPath()); err == nil {
			if err := r.save(nameOfCopy+suffix, func(path string) error { return os.Link(r.copyPath(), path) }); err != nil {
				return err
			}
		}
		if err := writeCopy(r.copyPath(), entries, r.o.Fault, fault.CopyWritten); err != nil {
			return err
		}
	}
	if err := r.giveUpUnfit(ctx, suffix); err != nil {
		return err
	}
	if r.Bus == "" {
		return nil
	}
	if err := r.p.conn.RestoreLedger(ctx, r.streams(), entries); err != nil {
		return fmt.Errorf("the bus's ledger is not complete, run the repair again: %w", err)
	}
	return r.readBack(ctx)
}

// save keeps what is replaced under a name of its own.
func (r *Repair) save(name string, write func(path string) error) error {
	path := filepath.Join(r.o.Data, name)
	if err := write(path); err != nil {
		return fmt.Errorf("keep what was there: %w", err)
	}
	r.Saved = append(r.Saved, path)
	return nil
}

// readBack verifies the ledger that was written: the same entries with the same stamps.
func (r *Repair) readBack(ctx context.Context) error {
	state := ledger.New(r.Ledger)
	err := r.p.conn.ReadLedger(ctx, 1, func(m bus.Stored) error {
		if m.Sequence > r.Tip.Number || !m.Stamp.Equal(r.chain.entries[m.Sequence-1].Stamp) {
			return fmt.Errorf("entry %d with the stamp %s is not what was written", m.Sequence, m.Stamp)
		}
		_, _, err := state.Apply(m.Payload, m.Stamp)
		return err
	})
	if err == nil && state.Hash != r.Tip.Hash {
		err = fmt.Errorf("it ends at entry %d with the hash %s", state.Number, state.Hash)
	}
	if err != nil {
		return fmt.Errorf("the bus's ledger was written and does not read back, run the repair again: %w", err)
	}
	return nil
}

// next is what to do about a ledger that is read-only.
func (p *Publisher) next(reason events.Reason) string {
	switch reason {
	case events.ReasonLedgerTruncated, events.ReasonLedgerForked:
		return "agents keep what they have; " + p.repairNext()
	}
	return "agents keep what they have; see 'publisher ledger verify'"
}

// repairNext names the command with what it needs to find the same ledger.
func (p *Publisher) repairNext() string {
	where := "--data " + p.opts.Data
	if p.opts.NATS != "" {
		where += " --nats " + p.opts.NATS
	}
	return "stop the publisher and run 'publisher ledger repair " + where + "'"
}
