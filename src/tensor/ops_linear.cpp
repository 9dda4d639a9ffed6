// Products and indexed access.
#include <algorithm>
#include <array>
#include <numeric>

#include "tensor/ops.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

using front::Call;
using front::fail;

Dims joined(std::span<const std::int64_t> a, std::initializer_list<std::int64_t> b) {
  Dims out(a.begin(), a.end());
  out.insert(out.end(), b);
  return out;
}

// [..., m, k] x [..., k, n] with equal leading axes. MATMUL is for floats and complex numbers; integer products are rare, and as
// a sum they run everywhere.
UOp matrix_product(const UOp& a, const UOp& b) {
  const auto x = a->shape(), y = b->shape();
  const auto batch = x.first(x.size() - 2);
  const std::int64_t m = x[x.size() - 2], k = x[x.size() - 1], n = y[y.size() - 1];
  const Dims out = joined(batch, {m, n});
  const std::int64_t size = std::accumulate(out.begin(), out.end(), std::int64_t{1}, std::multiplies<>());
  if (size == 0 || k == 0) return full(a->dtype, out, 0);
  if (is_float(a->dtype) || is_complex(a->dtype)) return make(Op::MATMUL, {a, b});
  const Dims cube = joined(batch, {m, k, n});
  const UOp left = broadcast_to(reshape(a, joined(batch, {m, k, 1})), cube);
  const UOp right = broadcast_to(reshape(b, joined(batch, {1, k, n})), cube);
  const Dims inner{static_cast<std::int64_t>(cube.size()) - 2};
  return reshape(k == 1 ? make(Op::MUL, {left, right}) : sum(make(Op::MUL, {left, right}), inner), out);
}

UOp with_batch(const UOp& x, std::span<const std::int64_t> batch) {
  const auto s = x->shape();
  return broadcast_to(x, joined(batch, {s[s.size() - 2], s[s.size() - 1]}));
}

Tensor contract(Call call, const Arg& left, const Arg& right) {
  const Where& where = left.where();
  LocationScope scope(where);
  UOp a = front::value(left, call), b = front::value(right, call);
  if (a->n_dim == 0 || b->n_dim == 0)
    fail(call,
         "shapes " + shape_text(a->shape()) + " and " + shape_text(b->shape()) +
             ": 0-d operands have no axis to "
             "contract; use *",
         where);
  const DType d = front::common_dtype({&left, &right}, call);
  if (d == DType::kBool) fail(call, "is not defined for bool; use astype", where);
  a = cast(a, d);
  b = cast(b, d);
  const auto x = a->shape(), y = b->shape();
  const bool row = x.size() == 1, column = y.size() == 1;
  if (x.back() != (column ? y[0] : y[y.size() - 2]))
    fail(call, "shapes " + shape_text(x) + " and " + shape_text(y) + " do not contract", where);
  if (row && column) return Tensor(tensor(make(Op::MUL, {a, b}))).sum({}, false, where);

  Dims out;  // of the result
  if (column && x.size() > 1) {
    // One matrix times one vector, whatever the leading axes are.
    const std::int64_t k = x.back();
    out.assign(x.begin(), x.end() - 1);
    const std::int64_t rows = std::accumulate(out.begin(), out.end(), std::int64_t{1}, std::multiplies<>());
    return tensor(reshape(matrix_product(reshape(a, Dims{rows, k}), reshape(b, Dims{k, 1})), out));
  }
  if (y.size() == 2 && x.size() > 2) {
    const std::int64_t k = x.back();
    out.assign(x.begin(), x.end() - 1);
    const std::int64_t rows = std::accumulate(out.begin(), out.end(), std::int64_t{1}, std::multiplies<>());
    out.push_back(y[1]);
    return tensor(reshape(matrix_product(reshape(a, Dims{rows, k}), b), out));
  }
  if (row) a = reshape(a, Dims{1, x[0]});
  // The leading axes broadcast; that of a matrix are none.
  const auto lead = a->shape().first(a->n_dim - 2), of_matrix = b->shape().first(b->n_dim - 2);
  Dims batch(std::max(lead.size(), of_matrix.size()) - of_matrix.size(), 1);
  batch.append(of_matrix);
  for (std::size_t i = 0; i < lead.size(); ++i) {
    std::int64_t& e = batch[batch.size() - lead.size() + i];
    if (e == 1) e = lead[i];
    if (lead[i] != e && lead[i] != 1)
      fail(call, "leading axes of shapes " + shape_text(x) + " and " + shape_text(y) + " do not broadcast",
           where);
  }
  const UOp product = matrix_product(with_batch(a, batch), with_batch(b, batch));
  out = shape_of(product.get());
  if (row) out.erase(out.end() - 2);
  return tensor(reshape(product, out));
}

Dims gathered_shape(const UOp& x, const UOp& index, std::int64_t axis) {
  Dims out(x->shape().begin(), x->shape().begin() + axis);
  out.insert(out.end(), index->shape().begin(), index->shape().end());
  out.insert(out.end(), x->shape().begin() + axis + 1, x->shape().end());
  return out;
}

}  // namespace

Tensor matmul(const Arg& a, const Arg& b) { return contract("matmul", a, b); }

Tensor dot(const Arg& a, const Arg& b) {
  constexpr Call kCall = "dot";
  LocationScope scope(a.where());
  const UOp x = front::value(a, kCall), y = front::value(b, kCall);
  if (x->n_dim == 0 || y->n_dim == 0) return a * b;
  if (x->n_dim > 2 || y->n_dim > 2)
    fail(kCall,
         "shapes " + shape_text(x->shape()) + " and " + shape_text(y->shape()) +
             ": more than two axes; use matmul",
         a.where());
  return contract(kCall, a, b);
}

Tensor gather(const Arg& x, const Arg& index, std::int64_t axis) {
  constexpr Call kCall = "gather";
  LocationScope scope(x.where());
  const UOp v = front::value(x, kCall);
  const std::int64_t a = front::axis_of(axis, v->shape(), kCall, x.where());
  const UOp i = front::index_value(kCall, v, index, a);
  front::check_shape(gathered_shape(v, i, a), kCall, x.where());
  return tensor(make(Op::GATHER, {v, i}, {a}));
}

Tensor scatter_add(const Arg& base, const Arg& index, const Arg& values, std::int64_t axis) {
  constexpr Call kCall = "scatter_add";
  const Where& where = base.where();
  LocationScope scope(where);
  const UOp v = front::value(base, kCall);
  const std::int64_t a = front::axis_of(axis, v->shape(), kCall, where);
  const UOp i = front::index_value(kCall, v, index, a);
  if (v->dtype == DType::kBool) fail(kCall, "is not defined for bool", where);
  const UOp add = uop(values, v->dtype, kCall);
  if (!front::same_kind(add->dtype, v->dtype))
    fail(kCall,
         "values are " + std::string(name(add->dtype)) + ", the base is " + std::string(name(v->dtype)) +
             "; use astype",
         where);
  const Dims shape = gathered_shape(v, i, a);
  front::check_shape(shape, kCall, where);
  bool fits = add->n_dim <= shape.size();
  for (std::size_t k = 0; fits && k < add->n_dim; ++k) {
    const std::int64_t from = add->shape()[k], to = shape[shape.size() - add->n_dim + k];
    fits = from == to || from == 1;
  }
  if (!fits)
    fail(kCall, "values of shape " + shape_text(add->shape()) + " do not broadcast to " + shape_text(shape),
         where);
  return tensor(make(Op::SCATTER_ADD, {v, i, broadcast_to(cast(add, v->dtype), shape)}, {a}));
}

}  // namespace tinyphys
