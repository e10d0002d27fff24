package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// glassLife is how long a break-glass counts: it releases at once, or not at all.
const glassLife = time.Hour

func breakGlassCommand(c *cli) *cobra.Command {
	var w writing
	var wait waiting
	var yes bool
	var reason, seen string
	cmd := &cobra.Command{
		Use:   "break-glass ID -m WHY",
		Short: "Release a change at once, alone, with the role break-glass; everybody sees it, and two others review it",
		Long: `Release a change at once, without approvals and freezes, alone: for an emergency. It needs the role break-glass in every environment of the
change, and a reason. Every screen says it until two other people have signed it off with 'publisher review'.

What is released is shown first. --digest pins the one that you looked at.`,
		Example:           `  publisher break-glass c7 -m "customers cannot pay; ben and carla are not reachable" --wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: c.completeChanges("open", "expired", "released"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return console.Usage(cmd, "say why with -m")
			}
			a, err := c.act(cmd.Context())
			if err != nil {
				return err
			}
			change, err := a.desk.Change(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := sameDigest(change, seen); err != nil {
				return err
			}
			if change, err = a.shown(cmd.Context(), change); err != nil {
				return err
			}
			body := ledger.BreakGlass{Change: change.ID, Digest: change.Digest, Reason: reason}
			if _, err := a.send(cmd.Context(), ledger.Command{ID: w.id(), Body: body}, true, 0); err != nil {
				return err
			}
			w.life = glassLife
			c.toSign(change, a, body.Digest, "break the glass for", time.Now().Add(w.life))
			if !w.dryRun {
				if err := c.confirm(cmd, yes, "release it now, alone?"); err != nil {
					return err
				}
			}
			out, err := c.doAs(cmd.Context(), a, w, body)
			if err != nil {
				return err
			}
			err = c.show(out, func() {
				c.released(out)
				c.done(w, "broke the glass for %s; two others sign it off with 'publisher review %s -m WHY'", change.ID, change.ID)
			})
			if err != nil || !wait.on || w.dryRun || len(out.Released) == 0 {
				return err
			}
			return c.follow(cmd.Context(), wait, change.ID, out.Released)
		},
	}
	cmd.Flags().StringVarP(&reason, "message", "m", "", "say `WHY`")
	cmd.Flags().StringVar(&seen, "digest", "", "release only this `DIGEST` of the change")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.register(cmd)
	wait.register(cmd)
	return cmd
}
