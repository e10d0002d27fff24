package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

func ledgerRepairCommand(c *cli) *cobra.Command {
	var o publisher.RepairOptions
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Write a verified ledger from what its copies hold; the publisher must be stopped",
		Long: `Look at every copy of the ledger: the bus's, the publisher's own in --data, and those named with --from. Verify numbers, hashes and
releases, show what each copy holds, and write the longest verified ledger to the bus and to the publisher's copy. Every entry keeps
its bytes and its first stamp. What is replaced is kept in files in --data.

Where no copy holds an entry it is lost, and nothing is written before --accept-loss says that this is accepted, by whom and why. Then
the releases that the publisher signed are taken back from the bus: environments keep their revisions and agents go on. What else was
in those entries stays lost, and the ledger says so for ever.

Copies may complete each other. Where they contradict each other nothing is written before --choose says which one to keep.

Stop all publishers of the bus first. Agents keep serving, and go on when the publisher is started again.`,
		Example: `  publisher ledger repair --data ./lockstep-data --dry-run
  publisher ledger repair --data ./lockstep-data --from /backup/ledger.copy
  publisher ledger repair --data ./lockstep-data --accept-loss --as olga -m "both disks are gone"`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Log, err = telemetry.NewLogger(c.stderr, "text", "error"); err != nil {
				return err
			}
			r, err := publisher.OpenRepair(cmd.Context(), o)
			if r == nil {
				return err
			}
			defer func() { err = errors.Join(err, r.Stop(context.WithoutCancel(cmd.Context()))) }()
			if err == nil && r.Needed() && !dryRun {
				c.repairFound(r)
				if err := c.confirm(cmd, yes, question(r)); err != nil {
					return err
				}
				if err := r.Run(cmd.Context(), time.Now()); err != nil {
					return err
				}
				return c.show(r, func() { c.repaired(r, o.Data) })
			}
			if len(r.Copies) == 0 {
				return err // nothing was looked at
			}
			if err == nil && !r.Needed() && len(r.Beyond) > 0 {
				err = console.Exit(console.ExitFailure, "the ledger is whole as far as it goes, and others know of more: name a copy that holds more with --from, or accept the loss with --accept-loss; until then the publisher stays read-only")
			}
			return errors.Join(err, c.show(r, func() { c.repairFound(r) }))
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.From, "from", nil, "`FILE` with another copy of the ledger: ledger.copy of another publisher or of a backup (repeatable)")
	f.StringVar(&o.Choose, "choose", "", "where copies contradict each other, the `HASH` of the newest entry to keep")
	f.BoolVar(&o.AcceptLoss, "accept-loss", false, "where no copy holds an entry, go on with the signed releases that are left of it")
	f.StringVar(&o.By, "as", "", "`NAME` of who accepts the loss")
	f.StringVarP(&o.Reason, "message", "m", "", "`WHY` the loss is accepted")
	f.BoolVar(&dryRun, "dry-run", false, "only look and show")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	reachBus(f, &o.Options)
	return cmd
}

// reachBus are the flags that say where the publisher's data is and which bus it uses.
func reachBus(f *pflag.FlagSet, o *publisher.Options) {
	f.StringVar(&o.Data, "data", "./lockstep-data", "`DIRECTORY` for the publisher's key, its copy of the ledger and the embedded bus")
	f.StringVar(&o.NATS, "nats", "", "existing NATS `ADDRESSES`, separated by commas, instead of the embedded bus")
	f.StringVar(&o.Credentials, "creds", "", "`FILE` with NATS credentials")
	f.StringVar(&o.CA, "tlscacert", "", "PEM `FILE`: who signs the certificate of the NATS server")
	f.StringVar(&o.Cert, "tlscert", "", "PEM `FILE`: certificate shown to the NATS server")
	f.StringVar(&o.Key, "tlskey", "", "PEM `FILE`: the certificate's key")
	f.IntVar(&o.Replicas, "replicas", 0, "how many replicas the streams have on an existing cluster, at least (default as many as there are; new ones have 3 on a cluster, otherwise 1)")
}

// repairFound says what was found, and what will be written.
func (c *cli) repairFound(r *publisher.Repair) {
	if !c.format.People() {
		return
	}
	t := c.newTable("COPY", "ENTRIES", "VERIFIED", "FOUND")
	for _, found := range r.Copies {
		verified := "none"
		if found.Verified > 0 {
			verified = fmt.Sprintf("1 to %d", found.Verified)
		}
		t.AppendRow([]any{plain(found.Name), found.Entries, verified, plain(found.Message)})
	}
	c.print(t)
	if r.Ledger == "" {
		c.contradictions(r.Chains)
		c.lossFound(r.Loss)
		return
	}
	c.line("")
	c.line("ledger    %s", r.Ledger)
	c.line("newest    entry %d of %s", r.Tip.Number, moment(r.Time))
	c.line("hash      %s", r.Tip.Hash)
	for _, more := range r.Beyond {
		c.line("%s    %s", c.paint(red, "beyond"), plain(more))
	}
	c.lossFound(r.Loss)
	switch {
	case !r.Needed() && len(r.Beyond) > 0:
	case !r.Needed():
		c.line("%s        there is nothing to repair", c.paint(green, "ok"))
	case r.Bus == "":
		c.line("writes    the publisher's copy; the bus's ledger is whole and stays as it is")
	default:
		c.line("writes    %s to the bus, each with its first stamp; the bus's ledger now: %s", plural(int(r.Tip.Number), "entry", "entries"), plain(r.Bus))
	}
}

func question(r *publisher.Repair) string {
	if r.Loss != nil && r.Loss.Accepted {
		return "Accept the loss and write it?"
	}
	return "Write it?"
}

// lossFound says what no copy holds, and what accepting that costs.
func (c *cli) lossFound(l *publisher.LossFound) {
	if l == nil {
		return
	}
	c.line("")
	name := func(list []string) string { return plain(strings.Join(list, ", ")) }
	if l.Entries > 0 {
		c.line("%s      at least %s, between %d and %d as far as is known: proposals, approvals, deliveries, enrolments and revocations in them are not known any more", c.paint(red, "lost"), plural(int(l.Entries), "entry", "entries"), l.First, l.Last)
		c.line("kept      %s after the first lost one", plural(int(l.Kept), "entry", "entries"))
		c.line("found     %s of lost entries on the bus, signed: they are taken back as they are", plural(int(l.Releases), "release", "releases"))
		c.line("ends      proposals that are open: what became of them may be lost; their authors revise them")
	}
	if len(l.Environments) > 0 {
		c.line("settings  of %s are lost: say them again with 'publisher env update'", name(l.Environments))
	}
	for _, a := range l.Agents {
		c.line("agent     %s of %s is not enrolled in what is left: enrol it again with its enrolment file", plain(a.Agent), plain(a.Environment))
	}
	for _, b := range l.Beyond {
		c.line("beyond    %s of %s holds revision %d, which nobody can give back: revoke it, and enrol it anew with an empty state", plain(b.Agent), plain(b.Environment), b.Revision)
	}
	if len(l.Unfit) > 0 {
		c.line("removes   releases of %s that do not follow what is left; they are kept in a file", name(l.Unfit))
	}
}

// contradictions shows the ledgers of a fork.
func (c *cli) contradictions(chains []publisher.ChainFound) {
	if len(chains) < 2 {
		return
	}
	c.line("")
	t := c.newTable("NEWEST", "HASH", "TIME", "PARTS", "HELD BY")
	for _, chain := range chains {
		parts := "-"
		if chain.Parts > 0 {
			parts = fmt.Sprintf("at entry %d", chain.Parts)
		}
		t.AppendRow([]any{fmt.Sprintf("entry %d", chain.Tip.Number), chain.Tip.Hash.Short(), moment(chain.Time), parts, plain(strings.Join(chain.Copies, ", "))})
	}
	c.print(t)
}

func (c *cli) repaired(r *publisher.Repair, data string) {
	for _, file := range r.Saved {
		c.line("kept      %s", plain(file))
	}
	c.line("%s  the ledger holds %s and reads back as it was", c.paint(green, "repaired"), plural(int(r.Tip.Number), "entry", "entries"))
	c.line("next      publisher serve --data %s, then publisher ledger verify and publisher doctor", plain(data))
}
