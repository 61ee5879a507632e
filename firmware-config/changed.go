package firmwareconfig

import "reflect"

// Changed lists the keys in which two configurations differ, lists of sections by
// their own key: kafka.listen, routes.
func Changed(a, b *Config) []string {
	return changed(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "")
}

func changed(a, b reflect.Value, path string) (keys []string) {
	for i, name := range namesOf(a.Type()) {
		x, y, key := a.Field(i), b.Field(i), join(path, name)
		switch {
		case x.Kind() == reflect.Struct:
			keys = append(keys, changed(x, y, key)...)
		case !reflect.DeepEqual(x.Interface(), y.Interface()) && (x.Kind() != reflect.Slice || x.Len()+y.Len() > 0):
			keys = append(keys, key)
		}
	}
	return keys
}
