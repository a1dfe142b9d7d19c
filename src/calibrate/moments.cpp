#include "krul/calibrate/moments.hpp"

#include <algorithm>

#include "krul/core/error.hpp"
#include "matrix.hpp"
#include "moment_loops.hpp"

namespace krul {
namespace {

/// Sums of the columns of one tensor of one group, or of the features, about `shift`.
struct Running {
  Eigen::RowVectorXf shift, sum;
  Matrix square;  // lower half, and no more of the upper one than panels reach
  Matrix cross;   // with the features
};

/// Columns of some tokens about their shift, as MomentLoops take them.
struct Panels {
  std::size_t columns = 0, tokens = 0, width = 0;
  std::vector<float> values;  // [panels, tokens, width], filled up with zeros

  [[nodiscard]] std::size_t count() const { return (columns + width - 1) / width; }

  /// @param rows  [tokens, columns]
  void fill(const Matrix& rows, std::size_t panel_columns) {
    columns = static_cast<std::size_t>(rows.cols());
    tokens = static_cast<std::size_t>(rows.rows());
    width = panel_columns;
    values.assign(count() * tokens * width, 0.0F);
    for (std::size_t panel = 0; panel < count(); ++panel)
      for (std::size_t token = 0; token < tokens; ++token)
        std::copy_n(rows.data() + token * columns + panel * width, std::min(width, columns - panel * width),
                    &values[(panel * tokens + token) * width]);
  }
};

/// One of them.
struct Panel {
  const Panels* of;
  std::size_t index;

  [[nodiscard]] std::size_t first() const { return index * of->width; }  ///< its first column
  [[nodiscard]] std::size_t columns() const { return std::min(of->width, of->columns - first()); }
  [[nodiscard]] const float* from(std::size_t token) const {
    return &of->values[(index * of->tokens + token) * of->width];
  }
};

/// sums += left^T right, of all columns, for those of one panel of each.
void add_product(const detail::MomentLoops& loops, const Panel& left, const Panel& right, Matrix& sums) {
  constexpr std::size_t most = 256;  // tokens of a panel that stay in the first caches
  const std::size_t tokens = left.of->tokens, stride = right.of->columns;
  for (std::size_t begin = 0; begin < tokens; begin += most)
    loops.add_product({.left = left.from(begin),
                       .right = right.from(begin),
                       .tokens = std::min(most, tokens - begin),
                       .rows = left.columns(),
                       .columns = right.columns(),
                       .sums = sums.data() + left.first() * stride + right.first(),
                       .stride = stride});
}

}  // namespace

struct KvMoments::State {
  std::size_t width = 0, layers = 0, features = 0, tokens = 0;
  std::vector<std::pair<std::size_t, std::size_t>> groups;
  const detail::MomentLoops* loops = nullptr;
  std::vector<Running> running;  // [groups, 2], then of the features
  std::vector<Panels> panels;    // as many; only used inside of add

  [[nodiscard]] const Running& of_features() const { return running.back(); }
  [[nodiscard]] Sums finish(const Running& sums) const {
    expects(tokens >= 2, "KvMoments: there were no tokens");
    const auto share = 1 / static_cast<float>(tokens);
    const Eigen::RowVectorXf mean = sums.sum * share, feature_mean = of_features().sum * share;
    const Matrix full = sums.square.selfadjointView<Eigen::Lower>();
    return {.mean = to_vector(sums.shift + mean),
            .covariance = to_vector(full * share - mean.transpose() * mean),
            .cross = to_vector(sums.cross * share - mean.transpose() * feature_mean)};
  }
};

KvMoments::KvMoments(const Geometry& geometry, std::size_t features, std::span<const std::size_t> group_sizes,
                     InstructionLevel level)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.loops = &detail::moment_loops(level);
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
  const auto f = static_cast<Eigen::Index>(features);
  const auto zeros = [](Eigen::Index n, Eigen::Index with) {
    return Running{Eigen::RowVectorXf::Zero(n), Eigen::RowVectorXf::Zero(n), Matrix::Zero(n, n), Matrix::Zero(n, with)};
  };
  for (const auto& [first, layers] : state.groups)
    state.running.insert(state.running.end(), 2, zeros(static_cast<Eigen::Index>(layers * state.width), f));
  state.running.push_back(zeros(f, 0));
  state.panels.resize(state.running.size());
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
  state.tokens += tokens;
  const std::size_t all = state.running.size();
  workers.parallel_for(all, [&](std::size_t i, std::size_t) {
    Running& running = state.running[i];
    Matrix x;
    if (i + 1 == all) {
      x = view(features, tokens, state.features);
    } else {
      const auto [begin, layers] = state.groups[i / 2];
      x = view(i % 2 == 0 ? keys : values, tokens, row)
              .middleCols(static_cast<Eigen::Index>(begin * state.width),
                          static_cast<Eigen::Index>(layers * state.width));
    }
    if (first) running.shift = x.colwise().mean();
    x.rowwise() -= running.shift;
    running.sum += x.colwise().sum();
    state.panels[i].fill(x, state.loops->panel_columns);
  });

  struct Task {
    std::size_t i, panel;
  };
  std::vector<Task> tasks;
  for (std::size_t i = all; i-- > 0;)  // the largest groups come last: begin with them
    for (std::size_t panel = state.panels[i].count(); panel-- > 0;) tasks.push_back({i, panel});
  workers.parallel_for(tasks.size(), [&](std::size_t index, std::size_t) {
    const auto [i, panel] = tasks[index];
    const Panels &own = state.panels[i], &given = state.panels.back();
    for (std::size_t other = 0; other <= panel; ++other)
      add_product(*state.loops, {&own, panel}, {&own, other}, state.running[i].square);
    if (i + 1 == all) return;
    for (std::size_t other = 0; other < given.count(); ++other)
      add_product(*state.loops, {&own, panel}, {&given, other}, state.running[i].cross);
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
  return state_->finish(state_->running.at(2 * group));
}
KvMoments::Sums KvMoments::values(std::size_t group) const {
  return state_->finish(state_->running.at(2 * group + 1));
}
std::vector<float> KvMoments::feature_covariance() const {
  const auto share = 1 / static_cast<float>(state_->tokens);
  const Running& sums = state_->of_features();
  const Matrix full = sums.square.selfadjointView<Eigen::Lower>();
  const Eigen::RowVectorXf mean = sums.sum * share;
  return to_vector(full * share - mean.transpose() * mean);
}
std::vector<float> KvMoments::feature_mean() const {
  const Running& sums = state_->of_features();
  return to_vector(sums.shift + sums.sum / static_cast<float>(state_->tokens));
}

}  // namespace krul
