package main

import (
	"time"

	"github.com/spf13/cobra"
)

func openCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "open",
		Short: "Print a link that shows the dashboard in a browser",
		Long: `Print a link to the dashboard. On the publisher's machine that is its address. From another one the publisher asks who you are: the request is
signed with your key, and the link opens a session for one browser, once, within a minute. The session reads, for twelve hours at most, and
ends when you leave the trust document, when the publisher is started again, or at /logout.

Nothing is opened by itself. Who has the link first has the session: give it to your own browser only.`,
		Example: `  publisher open --server https://lockstep.example.org:7070`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			publisher, as, err := c.connect()
			if err != nil {
				return err
			}
			link, err := publisher.Link(cmd.Context())
			if err != nil {
				return err
			}
			about := struct {
				URL     string    `json:"url"`
				Expires time.Time `json:"expires,omitzero"`
			}{publisher.Server() + link.Path, link.Expires}
			return c.show(about, func() {
				c.line("%s", about.URL)
				if !link.Expires.IsZero() {
					c.note("it opens a session as %s once, until %s", plain(as), link.Expires.Format(time.RFC3339))
				}
			})
		},
	}
}
