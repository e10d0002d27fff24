package policy

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// A recordType is a type of values with named fields: expressions that name another field are refused when they are read.
type recordType struct {
	name   string
	fields map[string]*types.Type
}

func (t *recordType) cel() *types.Type { return types.NewObjectType(t.name) }

// A record is a value of a recordType. Its fields are read when an expression asks for them.
type record struct {
	of   *recordType
	read func(field string) ref.Val
}

var _ ref.Val = (*record)(nil)

// ConvertToNative, ConvertToType, Equal, Type and Value are what CEL asks of a value.
func (r *record) ConvertToNative(reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s cannot be converted", r.of.name)
}

// ConvertToType knows only the type itself.
func (r *record) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return r.of.cel()
	}
	return types.NewErr("%s cannot be converted to %s", r.of.name, t.TypeName())
}

// Equal is true for the same record.
func (r *record) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(r)) }

// Type is the record's type.
func (r *record) Type() ref.Type { return r.of.cel() }

// Value is the record itself.
func (r *record) Value() any { return r }

// fields are the values of a record that are at hand.
func fields(of *recordType, values map[string]any) *record {
	return &record{of, func(field string) ref.Val { return types.DefaultTypeAdapter.NativeToValue(values[field]) }}
}

// A provider tells CEL of record types.
type provider struct {
	types.Provider
	records map[string]*recordType
}

func newProvider(base types.Provider, records ...*recordType) *provider {
	p := &provider{base, map[string]*recordType{}}
	for _, r := range records {
		p.records[r.name] = r
	}
	return p
}

// with is a provider that knows one more type.
func (p *provider) with(r *recordType) *provider {
	out := &provider{p.Provider, maps.Clone(p.records)}
	out.records[r.name] = r
	return out
}

// FindStructType finds a type by its name.
func (p *provider) FindStructType(name string) (*types.Type, bool) {
	if r, found := p.records[name]; found {
		return types.NewTypeTypeWithParam(r.cel()), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames lists a type's fields.
func (p *provider) FindStructFieldNames(name string) ([]string, bool) {
	if r, found := p.records[name]; found {
		return slices.Sorted(maps.Keys(r.fields)), true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType finds a field of a type.
func (p *provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	r, found := p.records[name]
	if !found {
		return p.Provider.FindStructFieldType(name, field)
	}
	t, found := r.fields[field]
	if !found {
		return nil, false
	}
	return &types.FieldType{
		Type:  t,
		IsSet: func(target any) bool { _, is := target.(*record); return is },
		GetFrom: func(target any) (any, error) {
			of, is := target.(*record)
			if !is {
				return nil, errNull
			}
			v := of.read(field)
			if err, failed := v.(*types.Err); failed {
				return nil, err
			}
			return v, nil
		},
	}, true
}

var errNull = errors.New("it is null: a resource that is new has no oldObject, and one that is deleted no object")

var (
	objectType = &recordType{"lockstep.Object", map[string]*types.Type{
		"key": cel.StringType, "kind": cel.StringType, "name": cel.StringType, "value": cel.DynType,
		"labels": cel.MapType(cel.StringType, cel.StringType), "owner": cel.StringType, "description": cel.StringType,
		"version": cel.StringType, "lifecycle": cel.StringType, "severity": cel.StringType, "expires": cel.StringType, "reviewBy": cel.StringType,
	}}
	environmentType = &recordType{"lockstep.Environment", map[string]*types.Type{
		"name": cel.StringType, "labels": cel.MapType(cel.StringType, cel.StringType), "facts": cel.MapType(cel.StringType, cel.StringType),
	}}
	changeType = &recordType{"lockstep.Change", map[string]*types.Type{
		"author": cel.StringType, "reason": cel.StringType, "ticket": cel.StringType, "kind": cel.StringType,
		"repository": cel.StringType, "commit": cel.StringType, "build": cel.StringType,
		"within": cel.DurationType, "time": cel.TimestampType, "environments": cel.ListType(cel.StringType),
	}}
	requestType = &recordType{"lockstep.Request", map[string]*types.Type{"operation": cel.StringType}}
)
