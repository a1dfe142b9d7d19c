#include "krul/calibrate/error_weights.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "krul/compress/joint/block_rotation.hpp"
#include "krul/core/error.hpp"
#include "matrix.hpp"

namespace krul {
namespace {

constexpr int draws = 2;  // keys drawn for each row and head

}  // namespace

struct ErrorWeights::State {
  struct Head {
    MatrixD keys, output;  // [D, D]: sums of M_K; B^T B
    Matrix root;           // [D, D]: root^T root = B^T B
    double values = 0;     // sum of the squared weights
  };

  Geometry geometry;
  Workers* workers;
  std::vector<Head> heads;  // [L, H]
  double rows = 0;          // of one layer
  Layer layer;

  /// [L, G, D, D]: the sums of a matrix of each query head over those that share a KV head.
  template <class MatrixOf>
  [[nodiscard]] std::vector<float> of_kv_heads(MatrixOf&& matrix_of) const {
    expects(rows > 0, "ErrorWeights: nothing was added");
    const std::size_t square = geometry.head_dim * geometry.head_dim, shared = geometry.query_heads / geometry.kv_heads;
    std::vector<float> sums(geometry.layers * geometry.kv_heads * square);
    for (std::size_t i = 0; i < heads.size(); ++i) {
      const MatrixD full = matrix_of(heads[i]);
      for (std::size_t j = 0; j < square; ++j) sums[i / shared * square + j] += static_cast<float>(full.data()[j]);
    }
    return sums;
  }
};

ErrorWeights::ErrorWeights(const Geometry& geometry, std::span<const std::vector<float>> outputs, Workers& workers)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.geometry = geometry;
  state.workers = &workers;
  const auto width = static_cast<Eigen::Index>(geometry.head_dim);
  expects(outputs.empty() || outputs.size() == geometry.layers, "ErrorWeights: one output matrix for each layer");
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    expects(outputs.empty() || outputs[layer].size() == geometry.hidden * geometry.query_heads * geometry.head_dim,
            "ErrorWeights: an output matrix is [hidden, H * D]");
    for (std::size_t head = 0; head < geometry.query_heads; ++head) {
      State::Head& to = state.heads.emplace_back();
      to.keys = MatrixD::Zero(width, width);
      to.output = MatrixD::Identity(width, width);
      if (!outputs.empty()) {
        const Matrix columns = view(outputs[layer], geometry.hidden, geometry.query_heads * geometry.head_dim)
                                   .middleCols(static_cast<Eigen::Index>(head) * width, width);
        to.output = (columns.transpose() * columns).cast<double>();
      }
      const Eigen::SelfAdjointEigenSolver<MatrixD> solver(to.output);
      to.root =
          (solver.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal() * solver.eigenvectors().transpose()).cast<float>();
    }
  }
}
ErrorWeights::ErrorWeights(ErrorWeights&&) noexcept = default;
ErrorWeights::~ErrorWeights() = default;

void ErrorWeights::begin(const Layer& layer) {
  state_->layer = layer;
}

void ErrorWeights::operator()(const AttentionBlock& block) {
  State& state = *state_;
  const Geometry& geometry = state.geometry;
  const std::size_t size = geometry.head_dim, heads = geometry.query_heads, rows = block.queries.size();
  const detail::BlockRotation rotation(geometry.rotary, 0, block.keys);
  if (block.layer == 0) state.rows += static_cast<double>(rows);
  state.workers->parallel_for(heads, [&](std::size_t head, std::size_t) {
    State::Head& to = state.heads[block.layer * heads + head];
    const std::size_t kv_head = head / (heads / geometry.kv_heads);
    std::minstd_rand random(static_cast<unsigned>(1 + block.queries[0] * heads + head));
    const Matrix values =
        view(state.layer.values, state.layer.values.size() / geometry.kv_values(), geometry.kv_values())
            .topRows(static_cast<Eigen::Index>(block.keys))
            .middleCols(static_cast<Eigen::Index>(kv_head * size), static_cast<Eigen::Index>(size)) *
        to.root.transpose();
    const Eigen::VectorXf lengths = values.rowwise().squaredNorm();
    Matrix outs(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(size));
    for (std::size_t row = 0; row < rows; ++row)
      std::copy_n(&state.layer.attention[(block.queries[row] * heads + head) * size], size,
                  outs.row(static_cast<Eigen::Index>(row)).data());
    outs *= to.root.transpose();
    const Matrix products = outs * values.transpose();  // [R, K]
    std::vector<double> running(block.keys);
    std::vector<float> turned(size);
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t token = block.queries[row], offset = (token * heads + head) * size;
      const float* weights = &block.weights[(head * rows + row) * block.keys];
      const auto r = static_cast<Eigen::Index>(row);
      const float length = outs.row(r).squaredNorm();
      double total = 0, squares = 0;
      for (std::size_t key = first_tokens; key <= token; ++key) {
        const double square = double{weights[key]} * weights[key];
        const auto i = static_cast<Eigen::Index>(key);
        squares += square;
        total += square * std::max(0.0F, lengths[i] + length - 2 * products(r, i));
        running[key] = total;
      }
      to.values += squares / state.layer.hidden;
      if (!(total > 0)) continue;
      for (int draw = 0; draw < draws; ++draw) {
        const double wanted = std::uniform_real_distribution<>(0, total)(random);
        const auto begin = running.begin() + first_tokens, end = running.begin() + static_cast<std::ptrdiff_t>(token);
        const auto key = static_cast<std::size_t>(std::lower_bound(begin, end, wanted) - running.begin());
        std::copy_n(&state.layer.queries[offset], size, turned.begin());
        rotation.turn_back(key, turned, size);
        const Eigen::VectorXd query =
            Eigen::Map<const Eigen::VectorXf>(turned.data(), static_cast<Eigen::Index>(size)).cast<double>();
        to.keys.selfadjointView<Eigen::Lower>().rankUpdate(
            query, total / draws / static_cast<double>(size) / state.layer.hidden);
      }
    }
  });
}

std::vector<float> ErrorWeights::keys() const {
  return state_->of_kv_heads([&](const State::Head& head) {
    return MatrixD(MatrixD(head.keys.selfadjointView<Eigen::Lower>()) / state_->rows);
  });
}

std::vector<float> ErrorWeights::values() const {
  return state_->of_kv_heads(
      [&](const State::Head& head) { return MatrixD(head.output * (head.values / state_->rows)); });
}

}  // namespace krul
