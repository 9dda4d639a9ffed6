#include "tinyphys/tensor.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <new>

#include "tensor/engine_hook.hpp"
#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/history.hpp"
#include "uop/pending.hpp"

namespace tinyphys {

void Tensor::retain(Node* n) {
  if (n) n->refs.add_handle();
}
void Tensor::release(Node* n) noexcept {
  if (n) release_handle(n);
}

void Tensor::moved(const Node* n) noexcept {
  if (n && n->refs.watched()) note_handle_change();
}

void Arg::too_large(std::uint64_t value, Where where) {
  front::fail("Arg", "the number " + std::to_string(value) + " does not fit int64", where);
}

Tensor as_tensor(const Arg& value) {
  LocationScope scope(value.where());
  return tensor(front::value(value, "as_tensor"));
}

// --- what it is ---

Shape Tensor::shape(Where where) const {
  const UOp x = front::value(*this, "shape", where);
  return {x->shape().begin(), x->shape().end()};
}
std::int64_t Tensor::dim(std::int64_t axis, Where where) const {
  const UOp x = front::value(*this, "dim", where);
  return x->shape()[static_cast<std::size_t>(front::axis_of(axis, x->shape(), "dim", where))];
}
DType Tensor::dtype(Where where) const { return front::value(*this, "dtype", where)->dtype; }
std::int64_t Tensor::ndim(Where where) const {
  return static_cast<std::int64_t>(front::value(*this, "ndim", where)->n_dim);
}
std::int64_t Tensor::size(Where where) const { return front::value(*this, "size", where)->size(); }

// --- values ---

Tensor Tensor::realize(Where where) const {
  {
    const UOp x = front::value(*this, "realize", where);
    front::compute(std::span<const UOp>(&x, 1), "realize", where);
  }
  let_go_soon();
  return *this;
}

void realize(const std::vector<Tensor>& tensors, Where where) {
  {
    std::vector<UOp> values;
    for (const Tensor& t : tensors) values.push_back(front::value(t, "realize", where));
    front::compute(values, "realize", where);
  }
  let_go_soon();
}

void Tensor::read(void* to, DType dtype, bool only_one, Where where) const {
  const front::Call call = only_one ? "item" : "to_vector";
  UOp x = front::value(*this, call, where);
  if (x->dtype != dtype)
    front::fail(call,
                "the tensor is " + front::describe(x.get()) + ", asked for " + std::string(name(dtype)) +
                    "; convert with astype",
                where);
  if (only_one && x->size() != 1)
    front::fail(call, front::describe(x.get()) + " has not exactly one element", where);
  front::compute(std::span<const UOp>(&x, 1), call, where);
  const std::size_t bytes = static_cast<std::size_t>(x->size()) * item_size(dtype);
  if (bytes) std::memcpy(to, HostRead(*storage(x.get())).data(), bytes);
  x = {};
  let_go_soon();
}

Tensor Tensor::clone(Where where) const {
  LocationScope scope(where);
  const UOp x = front::value(*this, "clone", where);
  front::compute(std::span<const UOp>(&x, 1), "clone", where);
  StorageRef copy = front::allocate(x->dtype, x->shape(), "clone", where);
  if (copy->bytes) std::memcpy(HostWrite(*copy).data(), HostRead(*storage(x.get())).data(), copy->bytes);
  return tensor(copy_to(buffer(x->dtype, x->shape(), std::move(copy)), x->device()));
}

bool allclose(const Arg& a, const Arg& b, double rtol, double atol, bool equal_nan) {
  constexpr front::Call kCall = "allclose";
  LocationScope scope(a.where());
  std::array<UOp, 2> v{front::value(a, kCall), front::value(b, kCall)};
  for (const auto& [what, tolerance] : {std::pair{"rtol", rtol}, std::pair{"atol", atol}})
    if (!(tolerance >= 0))
      front::fail(kCall,
                  std::string(what) + " is " + front::number_text(tolerance) + ", it must not be negative",
                  a.where());
  front::check_devices(v[0], v[1], kCall, a.where());
  const bool complex = is_complex(v[0]->dtype) || is_complex(v[1]->dtype);
  for (UOp& u : v) u = cast(u, complex ? DType::kComplex128 : DType::kFloat64);
  front::broadcast(v, kCall, a.where());
  const std::array<Tensor, 2> held{tensor(v[0]), tensor(v[1])};  // their values stay while they are looked at
  front::compute(v, kCall, a.where());
  const HostRead first(*storage(v[0].get())), second(*storage(v[1].get()));
  const auto all_close = [&]<class T>(const T* x, const T* y) {
    const auto is_nan = [](const T& t) { return t != t; };
    for (std::int64_t i = 0; i < v[0]->size(); ++i) {
      if (x[i] == y[i] || (equal_nan && is_nan(x[i]) && is_nan(y[i]))) continue;
      const double size = std::abs(y[i]);
      if (!std::isfinite(std::abs(x[i])) || !std::isfinite(size)) return false;
      if (!(std::abs(x[i] - y[i]) <= atol + rtol * size)) return false;
    }
    return true;
  };
  return complex ? all_close(first.as<std::complex<double>>(), second.as<std::complex<double>>())
                 : all_close(first.as<double>(), second.as<double>());
}

void Tensor::no_room(Where where) const {
  const UOp x = front::value(*this, "to_vector", where);
  front::fail("to_vector", out_of_memory(x->dtype, x->shape()), where);
}

}  // namespace tinyphys

namespace tinyphys::front {

ReadLog::ReadLog(Seen seen) : seen_(std::move(seen)), outer_(std::exchange(innermost_, this)) {}
ReadLog::~ReadLog() { innermost_ = outer_; }
void ReadLog::note(std::span<const UOp> values) {
  for (ReadLog* log = innermost_; log; log = log->outer_) log->seen_(values);
}

bool is_traced(const Node* n) { return !storage(n) && (n->flags & (Node::kHasSym | Node::kHasParam)); }

void compute(std::span<const UOp> values, Call call, const Where& where) {
  ReadLog::note(values);
  PendingTrace::before_compute(values);
  std::vector<UOp> missing;
  for (const UOp& v : values) {
    if (storage(v.get())) continue;
    if (is_traced(v.get()))
      fail(call,
           "the value depends on an argument of a function that is being traced (by grad, scan, a System, "
           "...): "
           "it has no number yet; use where() in place of a branch on it",
           where, v.get());
    missing.push_back(v);
  }
  if (missing.empty()) return;
  try {
    engine().realize(missing);  // asked once for all that have no value yet
  } catch (const Error& e) {
    if (e.line() != 0) throw;
    fail(e.call() == "allocate" ? call : e.call(), e.message(), where, missing.front().get());
  } catch (const std::bad_alloc&) {
    fail(call, "out of memory while " + describe(missing.front().get()) + " was computed", where,
         missing.front().get());
  }
  for (const UOp& v : missing)
    if (!storage(v.get())) fail(call, "the engine left no value for " + describe(v.get()), where);
}

}  // namespace tinyphys::front
