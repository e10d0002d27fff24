package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// A cloned is what clone did, or would do.
type cloned struct {
	Environment string             `json:"environment"`
	Labels      map[string]string  `json:"labels"`
	File        string             `json:"file,omitempty"`
	Manifest    string             `json:"manifest,omitempty"`
	Review      []registry.Finding `json:"review"`
	DryRun      bool               `json:"dryRun,omitempty"`
}

func envCloneCommand(c *cli) *cobra.Command {
	var path string
	var set []string
	var w writing
	cmd := &cobra.Command{
		Use:   "clone ENV NEW [--set LABEL=VALUE]... [-f DIR]",
		Short: "Add an environment that begins as another one is",
		Long: `Add an environment with the labels, steward and approvals of another one; --set gives it labels of its own. With -f DIR its manifest is
written into the directory beside the other one's: with its template and facts, and with everything that resources say for the other one
by name. Then it says what people should look at: values that hold the name or a label of the other one, and secrets that both would share.
Nothing is released before the directory is proposed.`,
		Example: `  publisher env clone prod-eu prod-ap --set region=ap -f environments/
  publisher diff -f environments/ --env prod-ap`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeArgument(c.completeEnvironments),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name(args[0])
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			like, err := publisher.Environment(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if like.Lost {
				return &ledger.Error{Kind: ledger.KindConflict, Message: "how many approvals " + args[0] + " demands was lost with its ledger",
					Next: "say it again with 'publisher env update " + args[0] + " --approvals N'"}
			}
			labels, err := relabelled(cmd, like.Labels, "set", set)
			if err != nil {
				return err
			}
			for _, label := range slices.Sorted(maps.Keys(labels)) {
				if _, has := like.Labels[label]; !has {
					c.note("note: %s has no label %s; it has %s", args[0], plain(label), strings.Join(slices.Sorted(maps.Keys(like.Labels)), ", "))
				}
			}
			out := cloned{Environment: args[1], Labels: labels, Review: []registry.Finding{}, DryRun: w.dryRun}
			if path != "" {
				if err := out.write(path, args[0], like.Labels); err != nil {
					return err
				}
			}
			if err := c.clone(cmd.Context(), w, out, ledger.AddEnvironment{Name: args[1], Labels: labels, Steward: like.Steward, Approvals: like.Approvals}); err != nil {
				return err
			}
			return c.show(out, func() { c.showCloned(w, path, args[0], out) })
		},
	}
	fromDirectory(cmd, &path)
	cmd.Flags().StringArrayVar(&set, "set", nil, "a label of its own, `KEY=VALUE`, such as region=ap; KEY- takes it away (repeatable)")
	w.register(cmd)
	return cmd
}

// clone adds the environment, and then writes its manifest: a file is easily written again.
func (c *cli) clone(ctx context.Context, w writing, out cloned, add ledger.AddEnvironment) error {
	if _, err := os.Lstat(out.File); out.File != "" && !errors.Is(err, fs.ErrNotExist) {
		return console.Exit(console.ExitFailure, out.File+" is there already, and nothing was done; move it away, or choose another name")
	}
	if _, err := c.do(ctx, w, add); err != nil || w.dryRun || out.File == "" {
		return err
	}
	return os.WriteFile(out.File, []byte(out.Manifest), 0o644)
}

// write makes the manifest, and looks at what the environment comes to with it.
func (out *cloned) write(path, from string, before map[string]string) error {
	files, err := loadDirectory(path)
	if err != nil {
		return err
	}
	invalid := func(err error) error {
		return &ledger.Error{Kind: ledger.KindInvalid, Message: err.Error(), Cause: err}
	}
	s, err := registry.Read(files)
	if err != nil {
		return invalid(err)
	}
	if m, there := s.Manifest(registry.KindEnvironment + "/" + out.Environment); there {
		return &ledger.Error{Kind: ledger.KindConflict, Message: fmt.Sprintf("%s declares environment %s already", m.Place(), out.Environment), Next: "choose another name"}
	}
	clone, err := s.Clone(from, out.Environment, out.Labels)
	if err != nil {
		return invalid(err)
	}
	out.File = filepath.Join(filepath.Dir(clone.File), out.Environment+".yaml")
	out.Manifest, out.Review = modeline(files, clone.File)+clone.YAML, append(out.Review, clone.Review...)
	if s, err = registry.Read(append(files, registry.File{Name: out.File, Text: out.Manifest})); err != nil {
		return invalid(err)
	}
	rendering, err := registry.NewRenderer().Render(s, registry.Target{Name: out.Environment, Labels: out.Labels})
	if err != nil {
		return invalid(err)
	}
	words := []string{from}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if out.Labels[name] != before[name] {
			words = append(words, before[name])
		}
	}
	out.Review = append(out.Review, rendering.Borrowed(words)...)
	return nil
}

// modeline is the line with which a file tells editors its schema.
func modeline(files []registry.File, name string) string {
	i := slices.IndexFunc(files, func(f registry.File) bool { return f.Name == name })
	first, _, _ := strings.Cut(files[i].Text, "\n")
	if !strings.HasPrefix(first, "# yaml-language-server:") {
		return ""
	}
	return first + "\n"
}

func (c *cli) showCloned(w writing, path, from string, out cloned) {
	if w.dryRun {
		c.line("%s", strings.TrimSuffix(out.Manifest, "\n"))
	}
	for _, f := range out.Review {
		c.note("review: %s", plain(f.String()))
	}
	if out.File == "" {
		c.done(w, "added %s, which has nothing yet; write its manifest with -f DIR, or bring it what %s has with 'publisher promote --from %s --to %s'", out.Environment, from, from, out.Environment)
		return
	}
	c.done(w, "added %s, and wrote %s; look at it with 'publisher diff -f %s --env %s'", out.Environment, out.File, path, out.Environment)
}
