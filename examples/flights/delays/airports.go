package delays

import (
	"math"
	"strconv"
)

// Late is the delay, in minutes, above which a flight counts as delayed.
const Late = 15

// Airport is the summary of one origin.
type Airport struct {
	Origin       string  `json:"origin"`
	Flights      int64   `json:"flights"`
	MeanDelay    float64 `json:"mean_delay"`    // minutes
	DelayedShare float64 `json:"delayed_share"` // of flights with a delay above Late
	P95          int     `json:"p95"`           // 95th percentile of the delay in minutes, by nearest rank
}

// Airports are the summaries of all origins, by code.
func (a *Accumulator) Airports() []Airport {
	out := make([]Airport, 0, len(a.origins))
	for _, name := range a.names() {
		out = append(out, a.origins[name].summary(name))
	}
	return out
}

// summary is exact: integers until the last division.
func (h *histogram) summary(name string) Airport {
	var flights, late uint64
	var sum int64
	h.each(func(delay int, n uint64) {
		flights += n
		sum += int64(delay) * int64(n)
		if delay > Late {
			late += n
		}
	})
	// Nearest rank: the smallest delay that at least 95% of the flights do not exceed.
	rank := (flights*95 + 99) / 100
	p95, seen := 0, uint64(0)
	h.each(func(delay int, n uint64) {
		if seen < rank {
			p95 = delay
		}
		seen += n
	})
	return Airport{
		Origin:       name,
		Flights:      int64(flights),
		MeanDelay:    float64(sum) / float64(flights),
		DelayedShare: float64(late) / float64(flights),
		P95:          p95,
	}
}

// AppendJSON writes airports as encoding/json does, without it.
func AppendJSON(dst []byte, airports []Airport) []byte {
	dst = append(dst, '[')
	for i, a := range airports {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"origin":`...)
		dst = appendString(dst, a.Origin)
		dst = append(dst, `,"flights":`...)
		dst = strconv.AppendInt(dst, a.Flights, 10)
		dst = append(dst, `,"mean_delay":`...)
		dst = appendFloat(dst, a.MeanDelay)
		dst = append(dst, `,"delayed_share":`...)
		dst = appendFloat(dst, a.DelayedShare)
		dst = append(dst, `,"p95":`...)
		dst = strconv.AppendInt(dst, int64(a.P95), 10)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendFloat writes the shortest form that reads back equal. Small shares would need an exponent; what
// is written has at most 20 digits after the point, which is exact enough for every share of up to 10^15
// flights.
func appendFloat(dst []byte, f float64) []byte {
	if abs := math.Abs(f); abs != 0 && abs < 1e-6 {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// appendString quotes a string; origins come out of keys, and may hold anything.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s { // invalid UTF-8 becomes U+FFFD, as in encoding/json
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}
