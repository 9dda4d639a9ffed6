#include "analysis/terms.hpp"

#include <algorithm>
#include <array>
#include <deque>

#include "derive/gradient.hpp"
#include "rewrite/rewrite.hpp"
#include "uop/build.hpp"

namespace tinyphys {
namespace {

constexpr std::size_t kTextLength = 60;

// The additive structure of a graph.
class Structure {
 public:
  Structure(std::span<const NamedOutput> outputs, std::span<const StateGroup> params) {
    std::vector<Node*> roots;
    for (const NamedOutput& o : outputs) roots.push_back(o.root.get());
    order_ = toposort(roots);
    degrees_ = node_degrees(order_, params);
    std::int64_t next = 0;
    for (Node* n : order_) {
      position_.insert(n, next++);
      splits_.insert(n, splits(n));
    }
  }

  const Degree& degree(const Node* n) const { return degrees_.at(n); }
  std::int64_t position(const Node* n) const { return position_.at(n); }
  // Is there a sum at n or below, reached by linear operations only?
  bool is_sum(const Node* n) const { return splits_.at(n); }
  // The sources among which n distributes.
  std::vector<Node*> parts(const Node* n) const {
    if (n->op == Op::ADD || n->op == Op::SUB || n->op == Op::CAT)
      return std::vector<Node*>(n->src().begin(), n->src().end());
    return {linear_source(n)};
  }

 private:
  bool depends(const Node* n) const { return degrees_.at(n).joint > 0; }

  // The source in which n is linear while the others are free of state; null where there is none.
  Node* linear_source(const Node* n) const {
    switch (n->op) {
      case Op::NEG:
      case Op::RESHAPE:
      case Op::PERMUTE:
      case Op::EXPAND:
      case Op::SLICE:
      case Op::ROLL:
      case Op::CUMSUM:
      case Op::FFT:
      case Op::RFFT:
      case Op::IRFFT: return n->src(0);
      case Op::PAD: return n->arg(0) == 0 ? n->src(0) : nullptr;  // filled with zeros
      case Op::REDUCE: return n->arg(0) == static_cast<std::int64_t>(Reduction::kSum) ? n->src(0) : nullptr;
      case Op::DIV:
      case Op::GATHER: return depends(n->src(1)) ? nullptr : n->src(0);
      case Op::MUL:
      case Op::MATMUL:
        if (depends(n->src(0)) && depends(n->src(1))) return nullptr;
        return depends(n->src(0)) ? n->src(0) : n->src(1);
      default: return nullptr;
    }
  }

  bool splits(const Node* n) const {
    if (!is_float(n->dtype) || !depends(n)) return false;
    if (n->op == Op::ADD || n->op == Op::SUB || n->op == Op::CAT) return true;
    const Node* s = linear_source(n);
    return s && splits_.at(s);
  }

  std::vector<Node*> order_;
  NodeMap<Degree> degrees_;
  NodeMap<std::int64_t> position_;
  NodeMap<char> splits_;
};

// Where the sums end: nodes that are no sums, from the root down. Each is met once.
std::vector<Node*> summands(const Structure& structure, Node* root, std::size_t limit, bool& stopped) {
  std::vector<Node*> found;
  std::deque<Node*> open{root};
  NodeMap<char> seen;
  seen.insert(root, 1);
  while (!open.empty()) {
    Node* n = open.front();
    open.pop_front();
    const bool sum = structure.is_sum(n);
    const std::vector<Node*> parts = sum ? structure.parts(n) : std::vector<Node*>{};
    if (!sum || found.size() + open.size() + parts.size() > limit) {
      stopped |= sum;
      found.push_back(n);
      continue;
    }
    for (Node* s : parts)
      if (seen.insert(s, 1)) open.push_back(s);
  }
  std::sort(found.begin(), found.end(),
            [&](Node* a, Node* b) { return structure.position(a) < structure.position(b); });
  return found;
}

// The number that c repeats, as a scalar; null where its elements differ.
UOp scalar_of(const UOp& c) {
  const Node* n = c.get();
  bool negative = false;
  for (;; n = n->src(0)) {
    if (n->op == Op::NEG)
      negative = !negative;
    else if (n->op != Op::EXPAND && n->op != Op::RESHAPE && n->op != Op::PERMUTE)
      break;
  }
  if (n->size() != 1) return {};
  if (n->op == Op::CONST && negative) return constant(-const_double(n), n->dtype);
  const UOp scalar = reshape(UOp::share(const_cast<Node*>(n)), Dims{});
  return negative ? neg(scalar) : scalar;
}

// <coefficient, x>.
UOp term_value(const UOp& coefficient, const UOp& x) {
  if (const UOp factor = scalar_of(coefficient)) return mul(factor, sum_all(x));
  return sum_all(mul(coefficient, x));
}

std::string term_text(const UOp& value, std::span<const std::string> names) {
  const Node* n = value.get();
  if (n->op != Op::NEG || n->src(0)->op == Op::ADD || n->src(0)->op == Op::SUB)
    return to_infix(n, kTextLength, names);
  return "-" + to_infix(n->src(0), kTextLength, names);
}

}  // namespace

std::string degree_text(const Degree& d, std::span<const std::string> names) {
  const std::string q = names.size() > 0 ? names[0] : "q", p = names.size() > 1 ? names[1] : "p";
  if (d.joint == 0) return "none";
  const std::string in = d.q > 0 && d.p > 0 ? q + " and " + p : d.q > 0 ? q : p;
  if (!d.finite()) return "not polynomial in " + in;
  std::string text = std::to_string(d.joint) + " in " + in;
  if (d.q > 0 && d.p > 0)
    text += " (" + std::to_string(d.q) + " in " + q + ", " + std::to_string(d.p) + " in " + p + ")";
  return text;
}

Terms find_terms(std::span<const NamedOutput> outputs, std::span<const StateGroup> params,
                 std::span<const std::string> names, std::size_t limit) {
  Terms out;
  const Structure structure(outputs, params);
  bool stopped = false;
  for (const NamedOutput& o : outputs) {
    const std::vector<Node*> found = summands(structure, o.root.get(), limit, stopped);
    // The output is linear in its summands; with symbols in their place, its gradient is their coefficients.
    NodeMap<UOp> symbols;
    std::vector<UOp> wrt;
    for (Node* n : found) {
      wrt.push_back(symbol(n->dtype, n->shape()));
      symbols.insert(n, wrt.back());
    }
    const UOp linear = substitute(o.root, [&](Node* n) {
      const UOp* s = symbols.find(n);
      return s ? *s : UOp();
    });
    const std::vector<UOp> coefficients = simplify(gradient(linear, wrt));
    for (std::size_t i = 0; i < found.size(); ++i) {
      Node* n = found[i];
      Term t{o.name,          n, term_value(coefficients[i], UOp::share(n)), structure.degree(n), {},
             location_text(n)};
      t.text = term_text(t.value, names);
      if (!t.degree
               .finite()) {  // sqrt(q q)^2 and the like are polynomials in the end, and the proof reads them so
        const std::array<UOp, 1> simple{simplify_for_recognition(t.value)};
        t.degree = bound_degree(lambda_of(simple, params.size()).get(), params, 2).worst;
      }
      out.list.push_back(std::move(t));
    }
  }
  if (stopped) out.stopped = "more than " + std::to_string(limit) + " terms: sums are left within some";
  return out;
}

}  // namespace tinyphys
