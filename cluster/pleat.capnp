# What an engine server answers: `pleat serve` behind it, `pleat ask` and the router in front.
#
# Room to evolve: fields and methods are only ever added, with defaults under which an older client or server means what
# it always meant. Sizes in messages are checked against Info.limits; what is over one is an Error with code tooLarge.

@0xdc29102717012565;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("pleat::rpc");

interface Engine {
  generate @0 (request :GenerateRequest, sink :Sink) -> (result :Result(Completion));
  # Writes a text. With a sink its pieces go there as they come, and the result, after Sink.done(), holds only what they
  # did not: tokens, text and logprobs are empty. Without one (null) the result holds everything.
  # Dropping the call, or the connection, ends the request: its place in the batch and its cache are free one step later.

  score @1 (request :ScoreRequest) -> (result :Result(Scores));
  # How likely the model finds given continuations of one context.

  tokenize @2 (prompt :Prompt) -> (result :Result(Tokens));
  # The tokens that generate() would start from.

  detokenize @3 (tokens :List(Int32)) -> (result :Result(Text));
  # Special tokens give no text; bytes that are not UTF-8 become U+FFFD.

  info @4 () -> (info :Info);
  # What does not change while the server runs.

  stats @5 () -> (stats :Stats);

  drain @6 (graceMs :UInt32) -> (cutOff :UInt32);
  # No new requests from now on; running ones may finish within graceMs (0: the server's own grace), the rest end with
  # code draining. Returns when none is left, with how many were cut off; then the server exits.
}

interface Sink {
  # Where a text goes, supplied by the client.

  push @0 (piece :Piece) -> stream;
  # The next piece, one token or more. The server sends on while the client keeps up: a connection's flow window of
  # pieces may be under way, more wait in the server up to Info.limits.bufferedTokens. A client further behind, or one
  # that takes nothing for readerTimeoutMs, is cut off with code slowReader.

  done @1 ();
  # No more pieces. The result of generate() follows.
}

struct Piece {
  tokens @0 :List(Int32);
  text @1 :Text;
  # Whole characters that no later token takes back. Shorter than the tokens' own text while a stop string may have begun.
  logprobs @2 :List(Logprob);
  # One a token where asked for, else empty.
}

struct GenerateRequest {
  prompt @0 :Prompt;
  sampling @1 :Sampling;
  priority @2 :Int16;
  # Of requests that wait, higher ones go first; equal ones in order of arrival. Where pages run out the lowest that runs
  # gives way, of equal ones the newest.
  deadlineMs @3 :UInt32;
  # From arrival; then the request ends with code deadlineExceeded. 0: none.
  written @4 :List(Int32);
  # The first tokens of a text that another server of the same identity (Info) began. The sink gets what comes after them,
  # as if it had not been interrupted; counts, and a result without a sink, are those of the whole text, whose logprobs
  # begin behind them.
  clock @5 :Int64;
  # Seconds since 1970: the time that the template of a conversation sees, which another server that goes on with the
  # text is told again. 0: the server's.
}

struct Prompt {
  union {
    text @0 :Text;
    # With the special tokens around it that the model expects. Empty: the end-of-text token.
    messages @1 :List(Message);
    # A conversation, by the model's chat template.
    tokens @2 :List(Int32);
    # As they are.
  }
}

struct Message {
  role @0 :Text;
  content @1 :Text;
}

struct Sampling {
  # As in OpenAI's API where that has them. Greedy at temperature 0. The same request gives the same text on any number
  # of ranks, alone or among others.
  temperature @0 :Float32 = 0;
  topK @1 :UInt32 = 0;
  # 0: all.
  topP @2 :Float32 = 1;
  minP @3 :Float32 = 0;
  # Of the best token's probability.
  repetitionPenalty @4 :Float32 = 1;
  seed @5 :UInt64 = 0;
  maxTokens @6 :UInt32 = 64;
  stop @7 :List(Text);
  # The text ends before the first of these.
  ignoreEos @8 :Bool = false;
  logprobs @9 :Int32 = -1;
  # -1: none; else each token's, and this many best.
}

struct Completion {
  finishReason @0 :FinishReason;
  promptTokens @1 :UInt32;
  completionTokens @2 :UInt32;
  tokens @3 :List(Int32);
  text @4 :Text;
  logprobs @5 :List(Logprob);
}

enum FinishReason {
  stop @0;
  # The end-of-text token or a stop string.
  length @1;
  # maxTokens, or the model's context.
}

struct Logprob {
  # Log-softmax of the raw logits, before temperature and filters.
  token @0 :Int32;
  logprob @1 :Float32;
  best @2 :List(Logprob);
  # Best first; these have no best of their own.
  bytes @3 :Data;
  # The token's text: a part of a character where that is spread over several tokens.
}

struct ScoreRequest {
  context @0 :Prompt;
  # A text is taken without special tokens around it.
  continuations @1 :List(Continuation);
  priority @2 :Int16;
  deadlineMs @3 :UInt32;
}

struct Continuation {
  union {
    text @0 :Text;
    # The context must be a text; both are tokenized together.
    tokens @1 :List(Int32);
  }
}

struct Scores {
  continuations @0 :List(Score);
  # In the request's order.
}

struct Score {
  tokens @0 :List(Int32);
  logprobs @1 :List(Float32);
  # One a token, each given the context and the tokens before it.
  sum @2 :Float64;
}

struct Tokens {
  tokens @0 :List(Int32);
}

struct Result(Value) {
  union {
    ok @0 :Value;
    error @1 :Error;
  }
}

struct Error {
  kind @0 :Kind;
  code @1 :Code;
  message @2 :Text;
  # One sentence for a person.
  retryAfterMs @3 :UInt32;
  # With kind overloaded: when it is worth trying again.

  enum Kind {
    # What the caller can do about it.
    invalid @0;
    # Mend the request.
    failed @1;
    # Give up.
    overloaded @2;
    # Try later.
    disconnected @3;
    # Try another server.
    unimplemented @4;
    # Ask another way.
  }

  enum Code {
    internal @0;
    # failed: the server's own fault.
    badRequest @1;
    # invalid: the message says which field.
    tooLarge @2;
    # invalid: over one of Info.limits.
    queueFull @3;
    # overloaded
    draining @4;
    # disconnected: the server is about to exit.
    deadlineExceeded @5;
    # failed
    slowReader @6;
    # failed: see Sink.push().
    sinkFailed @7;
    # failed: the client's sink threw.
    unimplemented @8;
    # unimplemented: this server is older than what it is asked for.
    notFinite @9;
    # failed: the model's logits for this text are not finite numbers, on whichever server.
    unavailable @10;
    # disconnected: a router has no server that can take the request.
  }
}

struct Info {
  model @0 :Text;
  version @1 :Text;
  # Of the program.
  capnpVersion @2 :Text;
  blueprint @3 :Blueprint;
  shards @4 :List(Shard);
  # In rank order.
  foldReport @5 :Text;
  # JSON, as `pleat fold` left it beside the weights; empty where it did not.
  limits @6 :Limits;
  identity @7 :Text;
  # Servers of one identity hold the same model and run it in the same way: one goes on with a text that another began.
}

struct Blueprint {
  family @0 :Text;
  layers @1 :UInt32;
  hidden @2 :UInt32;
  heads @3 :UInt32;
  kvHeads @4 :UInt32;
  headSize @5 :UInt32;
  neurons @6 :UInt32;
  vocab @7 :UInt32;
  maxPositions @8 :UInt32;
  gated @9 :Bool;
  folded @10 :Bool;
  reduction @11 :Float64;
  # Share of FFN weight bytes not read per token, at calibration; 0 for a dense model.
}

struct Shard {
  # What a rank holds. Ranges are [begin, end).
  heads @0 :Range;
  neurons @1 :Range;
  foldInputs @2 :Range;
  vocab @3 :Range;
  bytesStored @4 :UInt64;
  bytesReadPerToken @5 :UInt64;

  struct Range {
    begin @0 :UInt32;
    end @1 :UInt32;
  }
}

struct Limits {
  requests @0 :UInt32;
  # Accepted and not yet ended, waiting or running; each continuation of a score() is one.
  tokens @1 :UInt64;
  # Of their prompts and maxTokens together.
  promptBytes @2 :UInt32;
  # Of a prompt's text, or of all messages.
  messages @3 :UInt32;
  stopStrings @4 :UInt32;
  stopBytes @5 :UInt32;
  # Of one of them.
  logprobs @6 :UInt32;
  continuations @7 :UInt32;
  bufferedTokens @8 :UInt32;
  readerTimeoutMs @9 :UInt32;
  connections @10 :UInt32;
  messageBytes @11 :UInt64;
  # Of one RPC message; a longer one closes the connection.
  batch @12 :UInt32;
  # Texts written together.
  idleTimeoutMs @13 :UInt32;
  # A connection without a call for so long is closed.
  requestsPerConnection @14 :UInt32;
  # Of the requests, those of one connection. 0: all of them may be.
}

struct LayerStats {
  # Of the folded tokens, on rank 0: a sample of all ranks where there are several.
  neurons @0 :UInt32;
  # That rank 0 holds, where each token or prompt chooses which of them are computed exactly; else 0.
  exact @1 :UInt64;
  # Chosen, summed over the tokens: exact / (neurons * foldedTokens) is the fallback rate.
  recallNeeded @2 :UInt64;
  recallFound @3 :UInt64;
  # Of sampled tokens: neurons that their exact values call for, and those of them that the predictor chose. 0 where no
  # predictor chooses.
}

struct Stats {
  uptimeMs @0 :UInt64;
  draining @1 :Bool;
  connections @2 :UInt32;
  requests @3 :UInt32;
  # Accepted and not yet ended.
  waiting @4 :UInt32;
  running @5 :UInt32;
  # In the engine.
  outstandingTokens @6 :UInt64;
  # Counted against Limits.tokens.
  kvPages @7 :UInt64;
  kvPagesFree @8 :UInt64;
  # Pages of the key-value cache on each rank; those that only hold prompts for later ones are free.
  promptTokens @9 :UInt64;
  generatedTokens @10 :UInt64;
  # Computed since the start.

  accepted @11 :UInt64;
  completed @12 :UInt64;
  cancelled @13 :UInt64;
  # By the client or its sink, or with its connection.
  deadlineExceeded @14 :UInt64;
  slowReaders @15 :UInt64;
  overloaded @16 :UInt64;
  refused @17 :UInt64;
  # Invalid, or while draining.
  reusedTokens @18 :UInt64;
  # Of prompts, found in the cache and not computed again.
  preemptions @19 :UInt64;
  # Times a text gave its pages to another one and was computed again later.

  foldedTokens @20 :UInt64;
  # Of those computed since the start, that ran folded.
  stepSeconds @21 :Float64;
  collectiveSeconds @22 :Float64;
  # That rank 0 spent in steps, and of these in collectives, waiting for other ranks included.
  layers @23 :List(LayerStats);
}
