#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include "any_conversation.hpp"
#include "krul/any_model.hpp"
#include "krul/core/error.hpp"
#include "krul/core/escaped.hpp"
#include "krul/core/file_io.hpp"
#include "krul/eval/report_figures.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/model/load.hpp"
#include "progress_lines.hpp"
#include "store_option.hpp"
#include "text_lines.hpp"

namespace krul::cli {

using Json = nlohmann::ordered_json;
using eval::human_bytes;

/// Ends the verb: one line on standard error (and the JSON object's "error" with --json), exit code 1.
using Failure = ResultError;

/// Ends the verb, which has said why itself: with --json the error becomes a part of its object.
struct Told {
  Error error;
  int exit_code = 1;

  [[nodiscard]] static Told interrupted(int signal) {
    return {{ErrorCode::cancelled, "interrupted by signal " + std::to_string(signal)}, 128 + signal};
  }
};

/// The value, or the end of the program.
template <class T>
T unwrap(Result<T> result) {
  return or_throw(std::move(result));
}

/// What every verb shares.
class Tool {
 public:
  bool json = false;

  /// How far a verb is, escaped, on standard error. On a terminal the next state overwrites it and "" removes it;
  /// anywhere else it becomes a line, one in ten seconds.
  void progress(const std::string& text) const;
  /// The verb has ended: what a log lacks of its progress.
  void end_progress() const;
  /// A line or several for people on standard error, escaped but for line feeds.
  void say(const std::string& text) const;
  /// The verb's result: kept until the verb has ended, for what may still go wrong belongs into the same object.
  void print(Json object) const { result_ = std::move(object); }
  /// What the verb has failed with, beside what there is of a result.
  void print_error(std::string_view code, const std::string& message) const;
  /// The verb has ended: writes the result, one JSON object on standard output, if there is any.
  void write_result() const;

 private:
  mutable ProgressLines<> lines_;
  mutable Json result_;
};

/// A model on what --device names.
struct LoadedModel : ModelText {
  AnyModel backend;
  std::string threads;  ///< of the host that it uses
  std::string device;   ///< what the device calls itself; empty: the processor
};

/// --model, --device, --threads, --kernels, --precision, --cache, --chat-template
struct ModelOptions {
  std::string path;
  std::string device = "cpu";
  std::size_t threads = 0;
  std::string kernels = "auto";
  std::string precision = "auto";
  std::string cache = "auto";
  std::size_t context = 0;
  std::string chat_template;

  void add_to(CLI::App& verb);
  /// --context, for verbs whose conversations have no other bound.
  void add_context_to(CLI::App& verb);
  /// --model alone
  void add_file_to(CLI::App& verb);
  /// --chat-template alone
  void add_template_to(CLI::App& verb);
  /// The file that is meant; ends the program if there is none.
  [[nodiscard]] std::filesystem::path file() const;
  /// Ends the program as on_processor does, before the model is loaded.
  void expect_processor(const std::string& what) const;
  /// Ends the program if that is not possible.
  [[nodiscard]] LoadedModel load(const Tool& tool) const;
};

/// The model for what only a processor has; ends the program if it is on a device.
/// @param what  is done with it, for people
[[nodiscard]] CpuModel& on_processor(LoadedModel& model, const std::string& what);

/// Where models and machine costs are kept: $KRUL_CACHE, $XDG_CACHE_HOME/krul or ~/.cache/krul.
[[nodiscard]] std::filesystem::path cache_folder();

/// The figures of a report, by their names.
template <class Report>
[[nodiscard]] Json json_of(const Report& report) {
  Json object;
  eval::for_each_figure(report, [&](const char* name, const auto& value) { object[name] = value; });
  return object;
}

/// The model's chat format; ends the program if krul has none for it.
[[nodiscard]] const ChatFormat& chat_format(const ModelText& model);

/// The tokens of a text as it is, names of control tokens among them, with the model's first token before it.
[[nodiscard]] std::vector<Token> encode_raw(const ModelText& model, std::string_view text);

/// The tokens of a conversation in the model's chat format.
[[nodiscard]] std::vector<Token> encode_messages(const ModelText& model, std::span<const Message> messages,
                                                 bool add_generation_prompt);

/// What every row of a measurement says about where it was taken.
[[nodiscard]] Json describe_run(const LoadedModel& model);

}  // namespace krul::cli
