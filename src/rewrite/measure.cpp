#include "rewrite/measure.hpp"

#include "uop/graph.hpp"

namespace tinyphys {
namespace {

constexpr std::int64_t kLimit = std::int64_t{1} << 62;

std::int64_t add(std::int64_t a, std::int64_t b) { return a > kLimit - b ? kLimit : a + b; }
std::int64_t multiply(std::int64_t a, std::int64_t b) { return b != 0 && a > kLimit / b ? kLimit : a * b; }

std::int64_t weight(Op op) {
  switch (op) {
    case Op::CONST:
    case Op::BUFFER:
    case Op::SYM:
    case Op::PARAM:
    case Op::IOTA: return 1;
    case Op::EXPAND:
    case Op::RESHAPE: return 2;
    // Twice those: a permuted, padded or joined number becomes an expanded one.
    case Op::PERMUTE:
    case Op::SLICE:
    case Op::PAD:
    case Op::ROLL:
    case Op::CAT: return 8;
    case Op::NEG:
    case Op::NOT: return 16;
    case Op::DIV: return 48;
    case Op::POW:
    case Op::POWI: return 96;
    case Op::REDUCE: return 64;
    default: return 32;
  }
}

std::int64_t work(const Node* n) {
  const std::int64_t elements = n->op == Op::REDUCE        ? n->src(0)->size()
                                : n->dtype == DType::kVoid ? 0
                                                           : n->size();
  const std::int64_t once = multiply(weight(n->op), add(1, elements));
  return n->op == Op::REDUCE ? multiply(once, static_cast<std::int64_t>(n->n_arg)) : once;  // kind, axes...
}

}  // namespace

std::int64_t measure(const Node* root) {
  Node* r = const_cast<Node*>(root);
  NodeMap<std::int64_t> done;
  for (const Node* n : toposort(std::span<Node* const>(&r, 1))) {
    std::int64_t m = work(n);
    if (n->op != Op::LAMBDA)
      for (const Node* s : n->src())
        m = add(m, multiply(done.at(s), n->op == Op::POW || n->op == Op::POWI ? 2 : 1));
    done.insert(n, m);
  }
  return done.at(root);
}

}  // namespace tinyphys
