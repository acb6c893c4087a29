"""OpenCV's answers, for tests to compare with.

Reads one JSON object: {"function": name, "request": anything, "pictures": [file, ...]}; writes the
answer of the function of that name, which is called with the request and the pictures, as JSON.
"""

import json
import sys

import cv2
import numpy as np

cv2.setNumThreads(1)


def board_of(board):
    """Its own board, for {"columns", "rows", "square_m", "marker_m"}."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    size = (board["columns"], board["rows"])
    return cv2.aruco.CharucoBoard(size, board["square_m"], board["marker_m"], dictionary)


def markers(_, __):
    """The dictionary's cells, row after row, one bit each."""
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    pictures = [dictionary.generateImageMarker(i, 6) for i in range(50)]
    return [int("".join("01"[int(c > 0)] for c in p[1:5, 1:5].ravel()), 2) for p in pictures]


def charuco(board, pictures):
    """For each picture {corner's number: [x, y]}."""
    detector = cv2.aruco.CharucoDetector(board_of(board))
    found = []
    for picture in pictures:
        corners, ids, _, _ = detector.detectBoard(picture)
        corners = [] if corners is None else corners.reshape(-1, 2).tolist()
        ids = [] if ids is None else ids.ravel().tolist()
        found.append(dict(zip(ids, corners)))
    return found


def checkerboard(board, pictures):
    """For each picture the corners [x, y] along the rows, as OpenCV sees them; none: not found."""
    size = (board["columns"] - 1, board["rows"] - 1)
    found = []
    for picture in pictures:
        seen, corners = cv2.findChessboardCornersSB(picture, size, flags=cv2.CALIB_CB_ACCURACY)
        found.append(corners.reshape(-1, 2).tolist() if seen else [])
    return found


def hand_eye(request, _):
    """The camera's pose in the frame that it is fixed to, 4 x 4, by each method, for {"camera": 3 x 3,
    "distortion", "motions": the board's side's frame in the camera's side's, 4 x 4, "points": [[x, y, 0]],
    "pixels": [[[u, v]]]}."""
    camera, distortion = np.array(request["camera"]), np.array(request["distortion"])
    points = np.array(request["points"])
    # It wants what the camera is fixed to in the other frame.
    motions = [np.linalg.inv(np.array(motion)) for motion in request["motions"]]
    boards = []
    for pixels in request["pixels"]:
        ok, turn, move = cv2.solvePnP(
            points, np.array(pixels), camera, distortion, flags=cv2.SOLVEPNP_IPPE
        )
        assert ok
        turn, move = cv2.solvePnPRefineLM(points, np.array(pixels), camera, distortion, turn, move)
        boards.append((cv2.Rodrigues(turn)[0], move))
    found = {}
    for name in ["PARK", "TSAI"]:
        turn, move = cv2.calibrateHandEye(
            [m[:3, :3] for m in motions],
            [m[:3, 3] for m in motions],
            [turn for turn, _ in boards],
            [move for _, move in boards],
            method=getattr(cv2, "CALIB_HAND_EYE_" + name),
        )
        found[name] = np.vstack([np.hstack([turn, move.reshape(3, 1)]), [0, 0, 0, 1]]).tolist()
    return found


def intrinsics(board, pictures):
    """{"focal_px", "centre_px", "distortion" (k1 k2 p1 p2 k3), "rms_px"} from its own corners."""
    objects, images = [], []
    if board["marker_m"] is None:
        columns, rows = board["columns"] - 1, board["rows"] - 1
        grid = np.mgrid[0:columns, 0:rows].T.reshape(-1, 2) * board["square_m"]
        grid = np.hstack([grid, np.zeros((len(grid), 1))]).astype(np.float32)
        for corners in checkerboard(board, pictures):
            if corners:
                objects.append(grid)
                images.append(np.array(corners, np.float32))
    else:
        for seen in charuco(board, pictures):
            points = board_of(board).getChessboardCorners()[list(seen)]
            objects.append(np.array(points, np.float32))
            images.append(np.array(list(seen.values()), np.float32))
    height, width = pictures[0].shape
    rms, matrix, distortion, _, _ = cv2.calibrateCamera(objects, images, (width, height), None, None)
    return {
        "focal_px": [matrix[0, 0], matrix[1, 1]],
        "centre_px": [matrix[0, 2], matrix[1, 2]],
        "distortion": distortion.ravel().tolist(),
        "rms_px": rms,
    }


FUNCTIONS = [markers, charuco, checkerboard, intrinsics, hand_eye]

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    function = {f.__name__: f for f in FUNCTIONS}[asked["function"]]
    pictures = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in asked["pictures"]]
    json.dump(function(asked["request"], pictures), sys.stdout)
