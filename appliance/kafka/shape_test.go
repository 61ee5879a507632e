package kafka

import (
	"encoding/binary"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill gives every field a value and every array two elements.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Version" && f.Name != "UnknownTags" {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("some string")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(5)
	case reflect.Uint8:
		v.SetUint(5)
	}
}

// shaped are the requests that have a shape: all that may be large and are decoded.
func shaped(t testing.TB, f func(a *api, version int16)) {
	for _, a := range table {
		if a == nil || a.handle == nil || a.maxFrame == nil {
			continue
		}
		if shapes[a.key] == nil {
			t.Errorf("%s may be large and has no shape", a.name)
			continue
		}
		for v := a.min; v <= a.max; v++ {
			f(a, v)
		}
	}
}

// Every shape takes what the decoder takes, whole, and nothing that is cut short.
func TestShapes(t *testing.T) {
	shaped(t, func(a *api, version int16) {
		for _, filled := range []bool{false, true} {
			req := kmsg.RequestForKey(a.key)
			if filled {
				fill(reflect.ValueOf(req).Elem())
			}
			req.SetVersion(version)
			body := req.AppendTo(nil)
			w := walker{reader: reader{b: body, flexible: isFlexible(a.key, version)}, version: version, most: 100_000}
			if w.walk(shapes[a.key]); w.bad || len(w.b) != 0 {
				t.Errorf("%s v%d, filled=%v: bad=%v with %d of %d bytes left", a.name, version, filled, w.bad, len(w.b), len(body))
			}
			for n := range body {
				if checkShape(a.key, version, body[:n], 100_000) == nil {
					t.Errorf("%s v%d, filled=%v: %d of %d bytes pass", a.name, version, filled, n, len(body))
				}
			}
		}
	})
}

// A claim of many elements costs no more memory than a few times the request.
func TestForgedArraysCostLittle(t *testing.T) {
	const size, most = 1 << 20, 12 << 20
	s := &Server{}
	shaped(t, func(a *api, version int16) {
		req := kmsg.RequestForKey(a.key)
		fill(reflect.ValueOf(req).Elem())
		req.SetVersion(version)
		body := req.AppendTo(nil)
		if version != a.min && version != a.max {
			return
		}
		for at := range body {
			forged := make([]byte, size)
			copy(forged, body[:at])
			if claim := uint32(size - at - 8); isFlexible(a.key, version) {
				copy(forged[at:], binary.AppendUvarint(nil, uint64(claim)))
			} else {
				binary.BigEndian.PutUint32(forged[at:], claim)
			}
			req := kmsg.RequestForKey(a.key)
			req.SetVersion(version)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_ = s.decode(req, forged)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
				t.Fatalf("%s v%d, a claim at byte %d: %d bytes allocated for %d", a.name, version, at, grown, size)
			}
		}
	})
}

// FuzzShape looks for what the decoder takes and the shape does not.
func FuzzShape(f *testing.F) {
	shaped(f, func(a *api, version int16) {
		req := kmsg.RequestForKey(a.key)
		fill(reflect.ValueOf(req).Elem())
		req.SetVersion(version)
		f.Add(a.key, version, req.AppendTo(nil))
	})
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		a := lookup(key)
		if a == nil || shapes[key] == nil || !a.serves(version) {
			return
		}
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		if req.ReadFrom(body) != nil {
			return
		}
		// What the decoder took, written again, is what a client would send.
		if err := checkShape(key, version, req.AppendTo(nil), 100_000); err != nil {
			t.Fatalf("%s v%d: % x: %v", a.name, version, body, err)
		}
	})
}
