#include "tinyphys/jit.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "tensor/ops.hpp"
#include "tinyphys/error.hpp"
#include "uop/build.hpp"
#include "uop/graph.hpp"

namespace tinyphys::detail {
namespace {

using front::describe;
using front::fail;

constexpr std::string_view kCall = "jit";

// Of an argument: what of it a recording rests on.
struct Form {
  DType dtype;
  int device;
  Dims shape;
  bool is_of(const Node* n) const {
    return n->dtype == dtype && n->device() == device && std::ranges::equal(n->shape(), shape);
  }
};

// Nodes below these values, sources first, and which of them depend on the symbols. What has a value stands for itself.
struct Below {
  std::vector<Node*> order;
  NodeMap<char> depends;

  Below(std::span<const UOp> values, std::span<const UOp> symbols) {
    std::vector<Node*> roots;
    for (const UOp& v : values) roots.push_back(v.get());
    order = toposort(roots, [](const Node* n) { return storage(n) != nullptr; });
    for (const UOp& s : symbols) depends.insert(s.get(), 1);
    for (Node* n : order)
      if (n->op != Op::LAMBDA && std::ranges::any_of(n->src(), [&](Node* s) { return depends.contains(s); }))
        depends.insert(n, 1);
  }
  // Handles by which f may have come to what it captures.
  void watch() const {
    for (Node* n : order)
      if (n->refs.handles() > 0 && !depends.contains(n)) TensorAccess::watch(n);
  }
};

// The operations of f in order. Values are told by number: the arguments, what does not depend on them, what the
// operations give.
struct Tape {
  struct Step {
    Op op;
    std::vector<std::uint32_t> src;
    std::vector<std::int64_t> arg;
    std::uint32_t location;
    Labels labels;
  };
  // Handles where they can be: nothing else keeps a captured value from letting go of its past.
  std::vector<Tensor> fixed;
  std::vector<UOp> bodies;
  std::vector<Step> steps;
  std::vector<std::uint32_t> outputs;
  std::size_t n_args = 0;

  Tape() = default;
  Tape(std::span<const UOp> symbols, std::span<const UOp> results, const Below& below)
      : n_args(symbols.size()) {
    NodeMap<std::uint32_t> number;
    for (std::size_t i = 0; i < symbols.size(); ++i)
      number.insert(symbols[i].get(), static_cast<std::uint32_t>(i));
    std::vector<Node*> changing;
    for (Node* n : below.order)
      if (below.depends.contains(n) && !number.contains(n)) changing.push_back(n);
    const auto fix = [&](Node* n) {
      if (n->op == Op::LAMBDA || below.depends.contains(n) || number.contains(n)) return;
      number.insert(n, static_cast<std::uint32_t>(n_args + fixed.size()));
      fixed.push_back(tensor(UOp::share(n)));
    };
    for (Node* n : changing)
      for (Node* s : n->src()) fix(s);
    for (const UOp& r : results) fix(r.get());
    // After the values that are fixed, the bodies of loops: they are no values.
    for (Node* n : changing)
      for (Node* s : n->src())
        if (s->op == Op::LAMBDA &&
            number.insert(s, static_cast<std::uint32_t>(n_args + fixed.size() + bodies.size())))
          bodies.push_back(UOp::share(s));
    for (Node* n : changing) {
      Step step{n->op, {}, {n->arg().begin(), n->arg().end()}, first_location(n), labels_of(n)};
      for (Node* s : n->src()) step.src.push_back(number.at(s));
      number.insert(n, static_cast<std::uint32_t>(n_args + fixed.size() + bodies.size() + steps.size()));
      steps.push_back(std::move(step));
    }
    for (const UOp& r : results) outputs.push_back(number.at(r.get()));
  }

  std::vector<Tensor> at(std::span<const UOp> args) const {
    std::vector<Node*> values;
    values.reserve(n_args + fixed.size() + bodies.size() + steps.size());
    for (const UOp& a : args) values.push_back(a.get());
    for (const Tensor& t : fixed) values.push_back(TensorAccess::node(t));
    for (const UOp& b : bodies) values.push_back(b.get());
    std::vector<UOp> made;
    made.reserve(steps.size());
    SmallVector<Node*, 8> src;
    for (const Step& s : steps) {
      src.clear();
      for (const std::uint32_t i : s.src) src.push_back(values[i]);
      const LocationScope at(s.location);
      made.push_back(make(s.op, std::span<Node* const>(src), std::span<const std::int64_t>(s.arg)));
      if (s.labels.any()) set_labels(made.back().get(), s.labels);
      values.push_back(made.back().get());
    }
    std::vector<Tensor> out;
    for (const std::uint32_t i : outputs) out.push_back(tensor(UOp::share(values[i])));
    return out;
  }
};

// What f is: its closed graph, and the values that it takes from elsewhere.
struct Program {
  UOp lambda;
  std::vector<Tensor> captured;
};

struct Recording {
  Recordings::Kinds kinds;
  std::vector<Form> forms;
  Program program;
  Tape tape;
  std::shared_ptr<const std::any> like;
  std::uint64_t handle_changes = 0;
};

std::string told(const Node* n) {
  const std::string where = location_text(n);
  return describe(n) + (where.empty() ? "" : " from " + where);
}

std::string element_text(const Storage& s, DType d, std::int64_t i) {
  const HostRead read(s);
  switch (d) {
    case DType::kFloat64: return front::number_text(read.as<double>()[i]);
    case DType::kFloat32: return front::number_text(read.as<float>()[i]);
    case DType::kComplex128:
      return fmt::format("({}, {})", read.as<double>()[2 * i], read.as<double>()[2 * i + 1]);
    case DType::kComplex64:
      return fmt::format("({}, {})", read.as<float>()[2 * i], read.as<float>()[2 * i + 1]);
    case DType::kInt64: return std::to_string(read.as<std::int64_t>()[i]);
    case DType::kInt32: return std::to_string(read.as<std::int32_t>()[i]);
    default: return read.as<unsigned char>()[i] ? "true" : "false";
  }
}

// Empty where both are the same data.
std::string difference(const UOp& then, const UOp& now, const Where& where) {
  if (then.get() == now.get()) return {};
  if (then->dtype != now->dtype || !same_shape(then.get(), now.get()))
    return "is " + told(now.get()) + " now";
  if (front::is_traced(then.get()) || front::is_traced(now.get()))
    return "depends on an argument of a function that was being traced (by grad, scan, a System, ...)";
  const std::array<UOp, 2> both{then, now};
  front::compute(both, kCall, where);
  const Storage &a = *storage(then.get()), &b = *storage(now.get());
  const std::size_t each = item_size(then->dtype);
  const HostRead was(a), is(b);
  const auto *x = static_cast<const char*>(was.data()), *y = static_cast<const char*>(is.data());
  for (std::int64_t i = 0; i < then->size(); ++i)
    if (const std::size_t at = static_cast<std::size_t>(i) * each; std::memcmp(x + at, y + at, each) != 0)
      return fmt::format("element {} was {} and is {} now", i, element_text(a, then->dtype, i),
                         element_text(b, now->dtype, i));
  return {};
}

}  // namespace

OwnHandles::OwnHandles(bool own) : before_(std::exchange(quiet_handles(), own)) {}
OwnHandles::~OwnHandles() { quiet_handles() = before_; }

struct Recordings::Impl {
  const Where where;
  mutable std::recursive_mutex mutex;  // f may call this jit for other shapes
  std::list<Recording> recordings;
  std::int64_t times = 0;

  // Runs f on symbols.
  Program run(const std::vector<UOp>& args, const Record& record, Recording* keep) {
    std::vector<UOp> symbols, outputs;
    std::vector<Tensor> handles;
    for (const UOp& a : args) {
      symbols.push_back(symbol_like(a.get()));
      handles.push_back(tensor(symbols.back()));
    }
    ++times;
    Recorded r;
    {
      // What f reads of the values of tensors decides what it does.
      const front::ReadLog log([](std::span<const UOp> values) { Below(values, {}).watch(); });
      const OwnHandles not_own(false);
      r = record(handles);
    }
    for (const Tensor& t : r.outputs) outputs.push_back(front::value(t, kCall, where));
    r.outputs.clear();
    Program p;
    std::vector<UOp> captured;
    p.lambda = close_lambda(outputs, symbols, captured);
    const Below below(outputs, symbols);
    below.watch();
    if (keep) {
      keep->tape = Tape(symbols, outputs, below);
      keep->like = std::move(r.like);
    }
    for (const UOp& c : captured) p.captured.push_back(tensor(c));
    return p;
  }

  // Throws where f reads or does something else than it did.
  void check(Recording& r, const std::vector<UOp>& args, const Record& record) {
    const Program now = run(args, record, nullptr);
    const std::size_t n = std::min(now.captured.size(), r.program.captured.size());
    for (std::size_t i = 0; i < n; ++i) {
      const UOp before = uop(r.program.captured[i]);
      if (const std::string what = difference(before, uop(now.captured[i]), where); !what.empty())
        fail(kCall,
             fmt::format("captured value {}, {}, changed since the function was recorded: {}; make it an "
                         "argument, or a "
                         "new jit",
                         i, told(before.get()), what),
             where);
    }
    if (now.lambda.get() != r.program.lambda.get())
      fail(kCall,
           "the function does something else now than when it was recorded: what it captures changed; make "
           "that an "
           "argument, or a new jit",
           where);
  }
};

Recordings::Recordings(Where where) : impl_(new Impl{where, {}, {}, 0}) {}
Recordings::~Recordings() {
  const OwnHandles own;
  impl_.reset();
}

Recordings::Recorded Recordings::call(const Kinds& kinds, const std::vector<Tensor>& args,
                                      const Record& record) {
  Impl& impl = *impl_;
  // Ends last: where a call of the user's ends a loop may be folded, and only handles hold its values then.
  std::optional<LocationScope> scope;
  std::vector<UOp> values;
  for (const Tensor& t : args) values.push_back(front::value(t, kCall, impl.where));
  const std::lock_guard lock(impl.mutex);
  const auto same = [&](const Recording& r) {
    return r.kinds == kinds &&
           std::ranges::equal(values, r.forms, [](const UOp& v, const Form& f) { return f.is_of(v.get()); });
  };
  auto found = std::find_if(impl.recordings.begin(), impl.recordings.end(), same);
  if (found == impl.recordings.end()) {
    Recording r{kinds, {}, {}, {}, {}, 0};
    for (const UOp& v : values) r.forms.push_back({v->dtype, v->device(), shape_of(v.get())});
    r.program = impl.run(values, record, &r);
    r.handle_changes = handle_changes();
    impl.recordings.push_back(std::move(r));
    found = std::prev(impl.recordings.end());
  } else if (found->handle_changes != handle_changes()) {
    impl.check(*found, values, record);
    found->handle_changes = handle_changes();
  }
  scope.emplace(impl.where);
  return {found->tape.at(values), found->like};
}

std::int64_t Recordings::times_recorded() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->times;
}

}  // namespace tinyphys::detail
