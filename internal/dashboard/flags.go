package dashboard

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// mostColumns is how many environments stand side by side; more are gathered by stage and region.
const mostColumns = 12

type flagsPage struct {
	Filter  string
	Columns []flagColumn
	Flags   []flagLine // least healthy first
}

// Headline says how many flags are not healthy.
func (f *flagsPage) Headline() string {
	all, not := len(f.Flags), 0
	for _, row := range f.Flags {
		if row.Health < 100 {
			not++
		}
	}
	switch {
	case all == 0:
		return "No environment has a flag"
	case all == 1 && not == 0:
		return "The flag is healthy"
	case all == 1:
		return "The flag is not healthy"
	case not == 0:
		return "All " + thousands(all) + " flags are healthy"
	case not == 1:
		return "1 of " + thousands(all) + " flags is not healthy"
	}
	return thousands(not) + " of " + thousands(all) + " flags are not healthy"
}

// A flagColumn is an environment, or a stage and region.
type flagColumn struct {
	Name    string
	Address string
	group   string
	of      []int // cells of a row
}

type flagLine struct {
	fleet.FlagRow
	Cells [][]flagShare // by column
}

// A flagShare is what some environments of a column have.
type flagShare struct {
	fleet.FlagCell
	Count int
}

func (d *dashboard) flags(r *http.Request, p *page) (err error) {
	p.Title, p.Section = "Flags", "flags"
	of := &flagsPage{Filter: strings.TrimSpace(r.URL.Query().Get("filter"))}
	p.Body = of
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, asOf time.Time) {
		p.AsOf = asOf
		var matrix fleet.FlagMatrix
		if matrix, err = fleet.Flags(s, reports, labelled(of.Filter), asOf); err != nil {
			return
		}
		for i, name := range matrix.Environments {
			e := fleet.Environment{Name: name, Labels: s.Environments[name].Labels}
			column := flagColumn{Name: name, Address: "/environments/" + name, group: groupOf(e)}
			if len(matrix.Environments) > mostColumns {
				column.Name, column.Address = column.group, "/flags?filter="+url.QueryEscape(written(wordsOf(e)))
			}
			of.place(column, i)
		}
		slices.SortStableFunc(of.Columns, func(a, b flagColumn) int {
			return cmp.Or(cmp.Compare(rank(a.group), rank(b.group)), strings.Compare(a.Name, b.Name))
		})
		for _, row := range matrix.Flags {
			of.Flags = append(of.Flags, of.line(row))
		}
		slices.SortStableFunc(of.Flags, func(a, b flagLine) int { return cmp.Compare(a.Health, b.Health) })
	})
	return err
}

func (f *flagsPage) place(c flagColumn, cell int) {
	i := slices.IndexFunc(f.Columns, func(known flagColumn) bool { return known.Name == c.Name })
	if i < 0 {
		i = len(f.Columns)
		f.Columns = append(f.Columns, c)
	}
	f.Columns[i].of = append(f.Columns[i].of, cell)
}

func (f *flagsPage) line(row fleet.FlagRow) flagLine {
	out := flagLine{FlagRow: row}
	for _, column := range f.Columns {
		var shares []flagShare
		for _, i := range column.of {
			cell := row.Cells[i]
			at := slices.IndexFunc(shares, func(s flagShare) bool { return s.Alike(cell) })
			if at < 0 {
				at = len(shares)
				shares = append(shares, flagShare{FlagCell: cell})
			}
			shares[at].Count++
		}
		slices.SortStableFunc(shares, func(a, b flagShare) int { return b.Count - a.Count })
		out.Cells = append(out.Cells, shares)
	}
	return out
}
