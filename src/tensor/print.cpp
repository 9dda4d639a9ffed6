// Tensors as NumPy 1.24 prints arrays: at most 8 digits behind the point, columns aligned, lines of 75
// characters. The choices follow numpy/core/arrayprint.py.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <functional>
#include <ostream>

#include <fmt/format.h>

#include "tensor/ops.hpp"
#include "uop/history.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kThreshold = 1000;  // beyond: only the corners
constexpr std::int64_t kEdge = 3;
constexpr std::size_t kLineWidth = 75;
constexpr int kPrecision = 8;

// The shortest digits that read back the same value of the element's own type: "1.25e+03".
std::string scientific_text(double v, DType d) {
  char text[40];
  constexpr auto kForm = std::chars_format::scientific;
  const auto r = d == DType::kFloat32 ? std::to_chars(text, text + sizeof text, static_cast<float>(v), kForm)
                                      : std::to_chars(text, text + sizeof text, v, kForm);
  return {text, r.ptr};
}

// The same digits without an exponent: "1250". to_chars would print all digits of large numbers, zeros are
// wanted.
std::string positional_text(double v, DType d) {
  const std::string s = scientific_text(v, d);
  const std::size_t e = s.find('e'), sign = s[0] == '-';
  const int exponent = std::stoi(s.substr(e + 1));
  std::string digits = s.substr(sign, e - sign);
  if (digits.size() > 1) digits.erase(1, 1);  // the point
  if (exponent < 0) digits.insert(0, static_cast<std::size_t>(-exponent), '0');
  const std::size_t whole = exponent < 0 ? 1 : static_cast<std::size_t>(exponent) + 1;
  if (digits.size() < whole) digits.append(whole - digits.size(), '0');
  return s.substr(0, sign) + digits.substr(0, whole) +
         (digits.size() > whole ? "." + digits.substr(whole) : "");
}

std::string printed(const char* format, int digits, double v) {
  char text[400];
  std::snprintf(text, sizeof text, format, digits, v);
  return text;
}

// A number as its parts: "-12" "." "5" "e+03". At most kPrecision digits behind the point, no trailing zeros.
struct Parts {
  std::string whole, fraction, exponent;
};

Parts cut(const std::string& s) {
  const std::size_t e = std::min(s.find('e'), s.size()), point = std::min(s.find('.'), e);
  return {s.substr(0, point), point < e ? s.substr(point + 1, e - point - 1) : "", s.substr(e)};
}

Parts parts_of(double v, DType d, bool scientific) {
  Parts p = cut(scientific ? scientific_text(v, d) : positional_text(v, d));
  if (p.fraction.size() > kPrecision) {
    p = cut(printed(scientific ? "%.*e" : "%.*f", kPrecision, v));
    p.fraction.erase(p.fraction.find_last_not_of('0') + 1);
  }
  return p;
}

std::string left_padded(const std::string& s, std::size_t width) {
  return s.size() < width ? std::string(width - s.size(), ' ') + s : s;
}

// One format for all elements of an array, chosen from those that are shown.
class RealFormat {
 public:
  // `plus`: every number has its sign.
  RealFormat(const std::vector<double>& values, DType d, bool plus = false) : dtype_(d), plus_(plus) {
    double largest = 0, smallest = INFINITY;
    bool all_finite = true, negative_infinity = false, any_finite = false;
    for (double v : values) {
      if (!std::isfinite(v)) {
        all_finite = false;
        negative_infinity |= plus_ || (std::isinf(v) && v < 0);
        continue;
      }
      any_finite = true;
      if (v != 0) {
        largest = std::max(largest, std::abs(v));
        smallest = std::min(smallest, std::abs(v));
      }
    }
    scientific_ = largest > 0 && (largest >= 1e8 || smallest < 1e-4 || largest / smallest > 1000);
    for (double v : values) {
      if (!std::isfinite(v)) continue;
      const Parts p = signed_parts(v);
      left_ = std::max(left_, p.whole.size());
      digits_ = std::max(digits_, p.fraction.size());
      exponent_ = std::max(exponent_, p.exponent.size());
    }
    right_ = digits_ + exponent_;
    if (!all_finite) {
      // NumPy counts the point even when there is no finite number to carry it.
      const std::size_t room = right_ + 1, infinity = negative_infinity ? 4 : 3;
      left_ = std::max(left_, infinity > room ? infinity - room : 0);
      if (!any_finite) left_ = std::max<std::size_t>(left_, infinity - 1);
    }
  }

  std::string operator()(double v) const {
    if (!std::isfinite(v))
      return left_padded((plus_ && !(v < 0) ? "+" : "") + std::string(std::isnan(v) ? "nan"
                                                                      : v < 0       ? "-inf"
                                                                                    : "inf"),
                         left_ + right_ + 1);
    Parts p = signed_parts(v);
    // NumPy fills up with the digits that the binary number has, not with zeros.
    if (scientific_ && p.fraction.size() < digits_)
      p = cut(printed(plus_ ? "%+.*e" : "%.*e", static_cast<int>(digits_), v));
    if (p.exponent.size() < exponent_) p.exponent.insert(2, exponent_ - p.exponent.size(), '0');
    p.fraction.append(digits_ - p.fraction.size(), ' ');
    return left_padded(p.whole, left_) + "." + p.fraction + p.exponent;
  }

 private:
  Parts signed_parts(double v) const {
    Parts p = parts_of(v, dtype_, scientific_);
    if (plus_ && p.whole[0] != '-') p.whole.insert(0, 1, '+');
    return p;
  }

  DType dtype_;
  bool plus_, scientific_ = false;
  std::size_t left_ = 0, digits_ = 0, exponent_ = 0, right_ = 0;
};

// str(numpy.float64): the shortest text, positional for 1e-4 <= |v| < 1e16.
std::string scalar_text(double v, DType d) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
  const double a = std::abs(v);
  if (a != 0 && (a < 1e-4 || a >= 1e16)) return scientific_text(v, d);
  const std::string s = positional_text(v, d);
  return s.find('.') == std::string::npos ? s + ".0" : s;
}

// str(numpy.complex128): "(1+2j)", "2j".
std::string scalar_text(double re, double im, DType d) {
  const auto part = [&](double v, bool plus) {
    std::string s = scalar_text(v, d);
    if (s.ends_with(".0")) s.resize(s.size() - 2);
    return (plus && s[0] != '-' ? "+" : "") + s;
  };
  if (re == 0 && !std::signbit(re)) return part(im, false) + "j";
  return "(" + part(re, false) + part(im, true) + "j)";
}

// A value while it is printed.
class Elements {
 public:
  explicit Elements(const Node* n) : n_(n), values_(*storage(n)) {}
  const Node* node() const { return n_; }
  // Of a complex value the parts, each an element.
  double real(std::int64_t i) const {
    return real_dtype(n_->dtype) == DType::kFloat32 ? values_.as<float>()[i] : values_.as<double>()[i];
  }
  std::int64_t integer(std::int64_t i) const {
    if (n_->dtype == DType::kInt32) return values_.as<std::int32_t>()[i];
    if (n_->dtype == DType::kInt64) return values_.as<std::int64_t>()[i];
    return values_.as<unsigned char>()[i];
  }

 private:
  const Node* n_;
  HostRead values_;
};

// One number by a format of fmt's: "8.3f".
class Spec {
 public:
  Spec(std::string_view spec, const Elements& e, const Where& where)
      : e_(e), format_("{:" + std::string(spec) + "}"), imaginary_(format_) {
    if (const auto sign = imaginary_.find_first_of("+- ", 2); sign == 2)
      imaginary_[sign] = '+';
    else
      imaginary_.insert(2, 1, '+');
    const Node* n = e.node();
    const char type = spec.empty() ? '\0' : spec.back();
    const bool for_reals = std::string_view("aAeEfFgG").find(type) != std::string_view::npos ||
                           spec.find('.') != std::string_view::npos;
    const bool for_integers = std::string_view("bBdoxXc").find(type) != std::string_view::npos;
    const bool inexact = is_float(n->dtype) || is_complex(n->dtype);
    as_real_ = inexact || for_reals;
    if (for_integers && inexact)
      front::fail("format",
                  "\"" + format_ + "\" is a format of integers, the tensor is " + front::describe(n), where,
                  n);
  }
  // Of a complex number the format is that of each part.
  std::string operator()(std::int64_t i) const {
    if (is_complex(e_.node()->dtype))
      return text(e_.real(2 * i)) + fmt::format(fmt::runtime(imaginary_), e_.real(2 * i + 1)) + "j";
    if (e_.node()->dtype == DType::kFloat32) return text(static_cast<float>(e_.real(i)));
    if (e_.node()->dtype == DType::kFloat64) return text(e_.real(i));
    return as_real_ ? text(static_cast<double>(e_.integer(i))) : text(e_.integer(i));
  }

 private:
  template <class T> std::string text(T v) const { return fmt::format(fmt::runtime(format_), v); }
  const Elements& e_;
  std::string format_, imaginary_;
  bool as_real_ = false;
};

class Printer {
 public:
  using Element = std::function<std::string(std::int64_t)>;
  // given: how an element is written; NumPy's way where it is empty.
  explicit Printer(const Elements& e, Element given = {})
      : e_(e), n_(e.node()), summary_(n_->size() > kThreshold), given_(std::move(given)) {}

  std::string text() {
    if (n_->size() == 0) return "[]";
    if (n_->n_dim == 0) return scalar();
    choose_format();
    return block(0, 0, " ", kLineWidth);
  }

 private:
  std::string scalar() const {
    if (given_) return given_(0);
    if (is_float(n_->dtype)) return scalar_text(e_.real(0), n_->dtype);
    if (is_complex(n_->dtype)) return scalar_text(e_.real(0), e_.real(1), real_dtype(n_->dtype));
    const std::int64_t v = e_.integer(0);
    return n_->dtype == DType::kBool ? (v ? "True" : "False") : std::to_string(v);
  }

  // The positions of an axis that are shown; -1 stands for "...".
  std::vector<std::int64_t> shown(std::size_t axis) const {
    std::vector<std::int64_t> out;
    const std::int64_t n = n_->shape()[axis];
    const bool cut = summary_ && n > 2 * kEdge;
    for (std::int64_t i = 0; i < (cut ? kEdge : n); ++i) out.push_back(i);
    if (cut) out.push_back(-1);
    for (std::int64_t i = n - kEdge; cut && i < n; ++i) out.push_back(i);
    return out;
  }

  void choose_format() {
    std::vector<std::int64_t> at{0};
    for (std::size_t axis = 0; axis < n_->n_dim; ++axis) {
      std::vector<std::int64_t> next;
      for (std::int64_t base : at)
        for (std::int64_t i : shown(axis))
          if (i >= 0) next.push_back(base * n_->shape()[axis] + i);
      at.swap(next);
    }
    if (given_) {
      std::size_t width = 0;
      for (std::int64_t i : at) width = std::max(width, given_(i).size());
      format_ = [this, width](std::int64_t i) { return left_padded(given_(i), width); };
    } else if (is_float(n_->dtype)) {
      std::vector<double> values;
      for (std::int64_t i : at) values.push_back(e_.real(i));
      format_ = [this, real = RealFormat(values, n_->dtype)](std::int64_t i) { return real(e_.real(i)); };
    } else if (is_complex(n_->dtype)) {
      std::vector<double> re, im;
      for (std::int64_t i : at) {
        re.push_back(e_.real(2 * i));
        im.push_back(e_.real(2 * i + 1));
      }
      const DType d = real_dtype(n_->dtype);
      format_ = [this, real = RealFormat(re, d), imaginary = RealFormat(im, d, true)](std::int64_t i) {
        std::string s = imaginary(e_.real(2 * i + 1));
        s.insert(s.find_last_not_of(' ') + 1, 1, 'j');
        return real(e_.real(2 * i)) + s;
      };
    } else if (n_->dtype == DType::kBool) {
      format_ = [this](std::int64_t i) { return std::string(e_.integer(i) ? " True" : "False"); };
    } else {
      std::size_t width = 0;
      for (std::int64_t i : at) width = std::max(width, std::to_string(e_.integer(i)).size());
      format_ = [this, width](std::int64_t i) { return left_padded(std::to_string(e_.integer(i)), width); };
    }
  }

  // One axis in brackets; as deep as the tensor has axes.
  std::string block(std::size_t axis, std::int64_t base, const std::string& indent, std::size_t width) const {
    const bool innermost = axis + 1 == n_->n_dim;
    const auto positions = shown(axis);
    std::string all, line = innermost ? indent : "";
    for (std::size_t k = 0; k < positions.size(); ++k) {
      const bool last = k + 1 == positions.size();
      const std::int64_t i = positions[k], here = base * n_->shape()[axis] + i;
      if (innermost) {
        const std::string word = i < 0 ? "..." : format_(here);
        if (line.size() + word.size() > width - 1 && line.size() > indent.size()) {
          line.erase(line.find_last_not_of(' ') + 1);
          all += line + "\n";
          line = indent;
        }
        line += word + (last ? "" : " ");
      } else {
        all += indent + (i < 0 ? "..." : block(axis + 1, here, indent + " ", width - 1));
        if (!last) all += std::string(n_->n_dim - axis - 1, '\n');
      }
    }
    all += line;
    return "[" + all.substr(indent.size()) + "]";
  }

  const Elements& e_;
  const Node* n_;
  bool summary_;
  Element given_, format_;
};

}  // namespace

std::string to_string(const Arg& x, std::string_view spec) {
  const UOp u = front::value(x, "to_string");
  if (front::is_traced(u.get())) {
    const std::string at = location_text(u.get());
    return "<" + front::describe(u.get()) + (at.empty() ? "" : " of " + at) + ", traced: no number yet>";
  }
  front::compute(std::span(&u, 1), "print", x.where());
  let_go_soon();
  const Elements e(u.get());
  return (spec.empty() ? Printer(e) : Printer(e, Spec(spec, e, x.where()))).text();
}
std::string to_string(const Shape& shape) { return shape_text(shape); }

std::ostream& operator<<(std::ostream& out, const Arg& x) { return out << to_string(x); }

}  // namespace tinyphys
