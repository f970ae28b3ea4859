// Prints what k8s.io/apimachinery makes of quantities, as the rows of ../quantity.tsv:
//
//	parse  INPUT  ERROR
//	parse  INPUT  NANOS  FORMAT  CANONICAL
//	minus  A  B  CMP  NANOS  CANONICAL
//
// ERROR is format, numeric or suffix. NANOS is the value in billionths, or `large` above 2^127.
// Run it with `go run . > ../quantity.tsv`.
package main

import (
	"errors"
	"fmt"
	"math/big"

	"gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
)

var numbers = []string{
	"", "+", "-", ".", "-.", "0", "-0", "000", "0.0", "1", "-1", "+1", "007", "-007", "1.", ".5", "-.5", "+.5",
	"1.5", "1.500", "0.000", "2", "8", "-8", "100", "1000", "1500", "1024", "-1024", "1023", "2048", "1048576",
	"0.1", "-0.1", "0.0000000001", "-0.0000000001", "0.000000001", "1.0000000001", "-1.0000000001", "12.3456789012",
	"999999999999", "99999999999999", "999999999999999", "123456789012345678", "999999999999999999",
	"1234567890123456789", "1000000000000000000", "9223372036854775807", "-9223372036854775807", "9223372036854775808",
	"9223372036854775807.000000001", "-9223372036854775808", "18446744073709551616", "170141183460469231731687303715",
	"170141183460469231731687303716", "1234567890123456789012345678901234567890", "00000000000000000000000000000000000000001",
	"0.00000000000000000000000000000000000000000000000001", "1.00000000000000000000000000000000000000000000000001",
	"0.999999999999999999999999999999", "1000000000000000000000",
}

var suffixes = []string{
	"", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
	"e0", "e1", "e2", "e3", "E3", "e+3", "e-3", "E-9", "e-10", "e-11", "e18", "e20", "e24", "e100", "e-100", "e4294967299",
}

var odd = []string{
	" ", " 1", "1 ", "1\u00b5", "1\u00b5m", "1K", "1ki", "1mi", "1Kii", "1iK", "1Ke", "1kk", "1e", "1E", "1e+", "1e-", "1E+", "1ee3",
	"1Ee3", "1m5", "1k3", "1Ki3", "1Ki-3", "1n+", "1n-1", "1e1.5", "1.1.1", "1..1", "..", "--1", "+-1", "-+1", "1-", "1+", "1-1",
	"1+1", "+e3", "e-10", "-e-10", ".e-10", "+Ei", "-.Ei", "000Ei", "1,5", "1_000", "0x10", "inf", "NaN", "nan", "infinity", "null", "true",
	"1e9223372036854775807", "1e9223372036854775808", "1e-9223372036854775809", "1e99999999999999999999",
	"1e4294967296", "12e4294967290", "1.5e-2147483648", "0e-2147483648", "1e1000000", "1e-1000", "-1e-1000", "1e007",
	"1e-007", "1e00000000000000000000000003", "0.5Ki", "0.0001Ki", "1.1Ki", "1.0001Gi", ".000000001Ei", "0.0009765625Ki",
	"0.00048828125Ki", "7.99999999999999999999999999999Ei", "8Ei", "7Ei", "-8Ei", "-9Ei", "1000E", "1000000E", "1000000000E", "100000000000E",
	"1e27", "12e6", "1200e4", "1.2e7", "\u0661", "1\u0661", "٣",
}

var pairs = []string{
	"0", "0Ki", "0e3", "1", "-1", "500m", "0.5", "2", "1k", "1Ki", "1024", "1.5Gi", "1536Mi", "1e3", "1n", "1u", "-1n", "40", "39500m", "1E", "1e18",
	"1Ei", "7Ei", "8Ei", "-8Ei", "9223372036854775807", "9223372036854775808", "1000E", "123456789.123456789", "2Ti", "100e18",
}

func main() {
	for _, number := range numbers {
		for _, suffix := range suffixes {
			if number+suffix != "" {
				parse(number + suffix)
			}
		}
	}
	for _, text := range odd {
		parse(text)
	}
	for _, a := range pairs {
		for _, b := range pairs {
			x, y := resource.MustParse(a), resource.MustParse(b)
			left := x.DeepCopy()
			left.Sub(y)
			fmt.Printf("minus\t%s\t%s\t%d\t%s\t%s\n", a, b, x.Cmp(y), nanos(left), canonical(left))
		}
	}
}

func parse(text string) {
	q, err := resource.ParseQuantity(text)
	switch {
	case errors.Is(err, resource.ErrFormatWrong):
		fmt.Printf("parse\t%s\tformat\n", text)
	case errors.Is(err, resource.ErrNumeric):
		fmt.Printf("parse\t%s\tnumeric\n", text)
	case errors.Is(err, resource.ErrSuffix):
		fmt.Printf("parse\t%s\tsuffix\n", text)
	case err != nil:
		panic(err)
	default:
		fmt.Printf("parse\t%s\t%s\t%s\t%s\n", text, nanos(q), q.Format, canonical(q))
	}
}

func canonical(q resource.Quantity) string {
	number, suffix := q.CanonicalizeBytes(nil)
	return string(number) + string(suffix)
}

func nanos(q resource.Quantity) string {
	dec := new(inf.Dec).Set(q.AsDec())
	if dec.Sign() == 0 {
		return "0"
	}
	if dec.Scale() < -60 {
		return "large"
	}
	exact := new(inf.Dec).Round(dec, 9, inf.RoundExact)
	limit := new(big.Int).Lsh(big.NewInt(1), 127)
	if exact.UnscaledBig().CmpAbs(limit) >= 0 {
		return "large"
	}
	return exact.UnscaledBig().String()
}
