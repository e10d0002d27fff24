package events

import (
	"fmt"
	"strings"
)

// A DifferingResource is a resource whose value in an instance is not the one that was applied. It never holds a value.
type DifferingResource struct {
	Resource string   `json:"resource"`
	Fields   []string `json:"fields,omitempty"` // JSON pointers (RFC 6901) into its value; none: it differs as a whole, or holds a secret
	More     int      `json:"more,omitempty"`   // fields that are not listed
}

// mostNamed is how many resources OtherValues names.
const mostNamed = 10

// String names the resource and its fields for people.
func (d DifferingResource) String() string {
	if len(d.Fields) == 0 {
		return d.Resource
	}
	return d.Resource + " (" + enumerate(d.Fields, d.More) + ")"
}

// OtherValues says for people that an instance holds other values than were applied, and where: the first ten resources.
func OtherValues(list []DifferingResource) string {
	var names []string
	for _, d := range list[:min(len(list), mostNamed)] {
		names = append(names, d.String())
	}
	return "the instance holds other values for " + enumerate(names, len(list)-len(names))
}

func enumerate(names []string, more int) string {
	text := strings.Join(names, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
