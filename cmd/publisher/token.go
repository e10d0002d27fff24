package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func tokenCommand(c *cli) *cobra.Command {
	var lasts, host, path string
	cmd := &cobra.Command{
		Use:   "token -o FILE",
		Short: "Write a token by which a program reads the publisher from another host",
		Long: `Write a token for a program that reads the publisher from another host, such as Prometheus: a statement of yours, signed with your key, that
says for which ledger and host it is, that it only reads, and until when. It is sent as 'Authorization: Bearer'. The command line needs
none: it makes one for each call.

Who has the file reads as you. It counts while you have the key and a role in the trust document: sign it as somebody whose one role is
auditor, and take that person out of the trust document to have it refused at once. A token in FILE is written over, anything else is not.`,
		Example: `  publisher token --as monitoring --for 30d -o lockstep.token --server https://lockstep.example.org:7070
  publisher token --as monitoring --host lockstep.example.org -o lockstep.token     # on the publisher's machine`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return console.Usage(cmd, "name a file for the token with -o")
			}
			now := time.Now()
			until, err := timeOf(lasts, now)
			if err == nil && until.Sub(now) > access.MaxRead {
				err = errors.New("a token counts for at most 90 days")
			}
			if err != nil {
				return console.Usage(cmd, "--for: %v", err)
			}
			desk, as, err := c.connect()
			if err != nil {
				return err
			}
			if host == "" {
				if host = desk.Host(); strings.HasPrefix(desk.Server(), "http://") {
					return console.Usage(cmd, "at %s nobody is asked for a token; name with --host the publisher as the program reaches it", desk.Server())
				}
			}
			token, err := c.token(cmd, desk, as, host, until.Sub(now))
			if err != nil {
				return err
			}
			if err := writeToken(path, token); err != nil {
				return err
			}
			c.note("wrote %s, which nobody else may read: it reads %s as %s until %s", path, host, plain(as), until.Format(time.RFC3339))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "output", "o", "", "`FILE` to write")
	f.StringVar(&lasts, "for", "30d", "it counts for this `TIME`, as in 12h or 30d, at most 90d, or until 2026-12-24")
	f.StringVar(&host, "host", "", "`NAME` by which the program reaches the publisher (default: as --server says)")
	return cmd
}

// token makes a token that the publisher would take now.
func (c *cli) token(cmd *cobra.Command, desk *client.Client, as, host string, lasts time.Duration) (string, error) {
	pins, err := desk.Pins(cmd.Context(), "")
	if err != nil {
		return "", err
	}
	if pins.Document.Approvals != events.ApprovalsAreSigned {
		return "", console.Exit(console.ExitFailure, "approvals are names here, and programs on other hosts show client certificates; tokens count once 'publisher trust init' has signed who may read")
	}
	target, err := client.Locate(c.said)
	if err != nil {
		return "", err
	}
	ring := keys.Ring(target.Keys)
	key, err := ring.Read(as)
	if errors.Is(err, keys.ErrNoKey) {
		return "", noKey(as, ring)
	}
	if err != nil {
		return "", err
	}
	now := time.Now()
	holder := access.Holder{Name: as, Key: key.Key}
	if err := holder.May(&pins.Document, now); err != nil {
		return "", console.Exit(console.ExitDenied, events.MessageOf(err)+": see 'publisher trust show'")
	}
	return access.Mint(access.Use{Verb: access.Read, Host: host}, pins.Ledger, as, key.Signer, now, lasts)
}

// writeToken writes over nothing but a token: the path of a key is easily typed.
func writeToken(path, token string) error {
	before, err := os.ReadFile(path)
	switch {
	case err == nil && len(before) > 0 && !access.Looks(strings.TrimSpace(string(before))):
		return console.Exit(console.ExitFailure, path+" is there, and holds no token: name another file with -o")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for an older token: %w", err)
	}
	if err := keys.WritePrivate(path, []byte(token+"\n")); err != nil {
		return fmt.Errorf("write the token: %w", err)
	}
	return nil
}
