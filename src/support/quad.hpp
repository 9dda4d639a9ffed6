// IEEE quad precision (113 bits) as a number type of the evaluator: the reference that tests compare with.
#pragma once

#include <cstdint>

extern "C" {
// libquadmath, declared here: its header comes with g++ alone.
__extension__ typedef __float128 tinyphys_float128;
tinyphys_float128 sqrtq(tinyphys_float128);
tinyphys_float128 expq(tinyphys_float128);
tinyphys_float128 expm1q(tinyphys_float128);
tinyphys_float128 logq(tinyphys_float128);
tinyphys_float128 log1pq(tinyphys_float128);
tinyphys_float128 sinq(tinyphys_float128);
tinyphys_float128 cosq(tinyphys_float128);
tinyphys_float128 tanq(tinyphys_float128);
tinyphys_float128 asinq(tinyphys_float128);
tinyphys_float128 acosq(tinyphys_float128);
tinyphys_float128 atanq(tinyphys_float128);
tinyphys_float128 sinhq(tinyphys_float128);
tinyphys_float128 coshq(tinyphys_float128);
tinyphys_float128 tanhq(tinyphys_float128);
tinyphys_float128 erfq(tinyphys_float128);
tinyphys_float128 floorq(tinyphys_float128);
tinyphys_float128 ceilq(tinyphys_float128);
tinyphys_float128 powq(tinyphys_float128, tinyphys_float128);
tinyphys_float128 atan2q(tinyphys_float128, tinyphys_float128);
}

namespace tinyphys {

struct Quad {
  tinyphys_float128 v = 0;

  Quad() = default;
  Quad(double x) : v(x) {}
  explicit Quad(tinyphys_float128 x) : v(x) {}
  explicit operator double() const { return static_cast<double>(v); }

  friend Quad operator+(Quad a, Quad b) { return Quad(a.v + b.v); }
  friend Quad operator-(Quad a, Quad b) { return Quad(a.v - b.v); }
  friend Quad operator*(Quad a, Quad b) { return Quad(a.v * b.v); }
  friend Quad operator/(Quad a, Quad b) { return Quad(a.v / b.v); }
  friend Quad operator-(Quad a) { return Quad(-a.v); }
  friend bool operator<(Quad a, Quad b) { return a.v < b.v; }
  friend bool operator<=(Quad a, Quad b) { return a.v <= b.v; }
  friend bool operator>(Quad a, Quad b) { return a.v > b.v; }
  friend bool operator>=(Quad a, Quad b) { return a.v >= b.v; }
  friend bool operator==(Quad a, Quad b) { return a.v == b.v; }
  friend bool operator!=(Quad a, Quad b) { return a.v != b.v; }
};

inline Quad abs(Quad x) { return x.v < 0 ? -x : x; }
inline Quad sqrt(Quad x) { return Quad(sqrtq(x.v)); }
inline Quad exp(Quad x) { return Quad(expq(x.v)); }
inline Quad expm1(Quad x) { return Quad(expm1q(x.v)); }
inline Quad log(Quad x) { return Quad(logq(x.v)); }
inline Quad log1p(Quad x) { return Quad(log1pq(x.v)); }
inline Quad sin(Quad x) { return Quad(sinq(x.v)); }
inline Quad cos(Quad x) { return Quad(cosq(x.v)); }
inline Quad tan(Quad x) { return Quad(tanq(x.v)); }
inline Quad asin(Quad x) { return Quad(asinq(x.v)); }
inline Quad acos(Quad x) { return Quad(acosq(x.v)); }
inline Quad atan(Quad x) { return Quad(atanq(x.v)); }
inline Quad sinh(Quad x) { return Quad(sinhq(x.v)); }
inline Quad cosh(Quad x) { return Quad(coshq(x.v)); }
inline Quad tanh(Quad x) { return Quad(tanhq(x.v)); }
inline Quad erf(Quad x) { return Quad(erfq(x.v)); }
inline Quad floor(Quad x) { return Quad(floorq(x.v)); }
inline Quad ceil(Quad x) { return Quad(ceilq(x.v)); }
inline Quad pow(Quad a, Quad b) { return Quad(powq(a.v, b.v)); }
inline Quad atan2(Quad y, Quad x) { return Quad(atan2q(y.v, x.v)); }

}  // namespace tinyphys
