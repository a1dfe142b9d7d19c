#include "krul/calibrate/moments.hpp"

#include <algorithm>

#include "krul/core/error.hpp"
#include "matrix.hpp"

namespace krul {
namespace {

/// Sums of one tensor of one group, about `shift`.
struct Running {
  Eigen::RowVectorXf shift, sum;
  Matrix square, cross;
};

}  // namespace

struct KvMoments::State {
  std::size_t width = 0, layers = 0, features = 0, tokens = 0;
  std::vector<std::pair<std::size_t, std::size_t>> groups;
  std::vector<Running> tensors;  // [groups, 2]
  Eigen::RowVectorXf feature_shift, feature_sum;
  Matrix feature_square;

  [[nodiscard]] Sums finish(const Running& running) const {
    expects(tokens >= 2, "KvMoments: there were no tokens");
    const auto share = 1 / static_cast<float>(tokens);
    const Eigen::RowVectorXf mean = running.sum * share, feature_mean = feature_sum * share;
    Matrix full = running.square.selfadjointView<Eigen::Lower>();
    return {.mean = to_vector(running.shift + mean),
            .covariance = to_vector(full * share - mean.transpose() * mean),
            .cross = to_vector(running.cross * share - mean.transpose() * feature_mean)};
  }
};

KvMoments::KvMoments(const Geometry& geometry, std::size_t features, std::span<const std::size_t> group_sizes)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.width = geometry.kv_values();
  state.layers = geometry.layers;
  state.features = features;
  for (std::size_t first = 0, i = 0; first < geometry.layers; ++i) {
    expects(!group_sizes.empty(), "KvMoments: no sizes of groups");
    const std::size_t size = group_sizes[std::min(i, group_sizes.size() - 1)];
    expects(size > 0, "KvMoments: a group has a layer");
    state.groups.emplace_back(first, std::min(size, geometry.layers - first));
    first += size;
  }
  for (const auto& [first, layers] : state.groups) {
    const auto n = static_cast<Eigen::Index>(layers * state.width), f = static_cast<Eigen::Index>(features);
    const Running empty{Eigen::RowVectorXf::Zero(n), Eigen::RowVectorXf::Zero(n), Matrix::Zero(n, n),
                        Matrix::Zero(n, f)};
    state.tensors.insert(state.tensors.end(), 2, empty);
  }
  const auto f = static_cast<Eigen::Index>(features);
  state.feature_shift = state.feature_sum = Eigen::RowVectorXf::Zero(f);
  state.feature_square = Matrix::Zero(f, f);
}
KvMoments::KvMoments(KvMoments&&) noexcept = default;
KvMoments& KvMoments::operator=(KvMoments&&) noexcept = default;
KvMoments::~KvMoments() = default;

void KvMoments::add(std::span<const float> keys, std::span<const float> values, std::span<const float> features,
                    Workers& workers) {
  State& state = *state_;
  const std::size_t row = state.layers * state.width, tokens = keys.size() / row;
  expects(tokens > 0 && keys.size() == tokens * row && values.size() == keys.size() &&
              features.size() == tokens * state.features,
          "KvMoments: keys, values and features must be of the same tokens");
  const bool first = state.tokens == 0;
  Matrix given = view(features, tokens, state.features);
  if (first) state.feature_shift = given.colwise().mean();
  given.rowwise() -= state.feature_shift;
  state.feature_sum += given.colwise().sum();
  state.tokens += tokens;
  workers.parallel_for(state.tensors.size() + 1, [&](std::size_t task, std::size_t) {
    if (task == state.tensors.size()) {
      state.feature_square.selfadjointView<Eigen::Lower>().rankUpdate(given.transpose());
      return;
    }
    const std::size_t i = state.tensors.size() - 1 - task;  // the largest groups come last: begin with them
    Running& running = state.tensors[i];
    const auto [begin, layers] = state.groups[i / 2];
    Matrix x = view(i % 2 == 0 ? keys : values, tokens, row)
                   .middleCols(static_cast<Eigen::Index>(begin * state.width),
                               static_cast<Eigen::Index>(layers * state.width));
    if (first) running.shift = x.colwise().mean();
    x.rowwise() -= running.shift;
    running.sum += x.colwise().sum();
    running.square.selfadjointView<Eigen::Lower>().rankUpdate(x.transpose());
    running.cross.noalias() += x.transpose() * given;
  });
}

std::size_t KvMoments::tokens() const noexcept {
  return state_->tokens;
}
std::size_t KvMoments::features() const noexcept {
  return state_->features;
}
std::span<const std::pair<std::size_t, std::size_t>> KvMoments::groups() const noexcept {
  return state_->groups;
}
KvMoments::Sums KvMoments::keys(std::size_t group) const {
  return state_->finish(state_->tensors.at(2 * group));
}
KvMoments::Sums KvMoments::values(std::size_t group) const {
  return state_->finish(state_->tensors.at(2 * group + 1));
}
std::vector<float> KvMoments::feature_covariance() const {
  const auto share = 1 / static_cast<float>(state_->tokens);
  const Matrix full = state_->feature_square.selfadjointView<Eigen::Lower>();
  const Eigen::RowVectorXf mean = state_->feature_sum * share;
  return to_vector(full * share - mean.transpose() * mean);
}
std::vector<float> KvMoments::feature_mean() const {
  return to_vector(state_->feature_shift + state_->feature_sum / static_cast<float>(state_->tokens));
}

}  // namespace krul
